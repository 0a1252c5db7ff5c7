//! Keys in every form that operators hold, and what they sign: by openssl and by Python's `pow`.

use super::*;

const MODULUS: &str = "c4341a791a471e7f74e2b2fd711182441ce969d08bf66fb9e48536b6784b8244\
                       941438f23f750c47797d5d826a355b503b3a959e5e6c69cb1a5c93d00a0ac85a240d";
const EXPONENT: &str = "bc2677089131884693d15df1fafede5bf119c8f64b71fcbc582f83434262aebe\
                        914e5980caa12931b0d619209a9a4ff15098c0db41c6554ee479eefb3ddf3497f1c1";
const MODULUS_DECIMAL: &str = "673448763211666498526158876167137079740751491514124457549652076429\
    9307\
    9487452942941504614909253835621788858135511857209186680078312681012586\
    1030397097369281549";
const EXPONENT_DECIMAL: &str = "645806711042061803757778154179716252658300028795766968027571967703\
    6156\
    7763979962117540609223764179577292334029405726725055299370465172392121\
    3296087543517278657";
/// By `openssl genrsa -traditional 528`.
const PKCS1: &str = "\
-----BEGIN RSA PRIVATE KEY-----
MIIBRQIBAAJDAMQ0GnkaRx5/dOKy/XERgkQc6WnQi/ZvueSFNrZ4S4JElBQ48j91
DEd5fV2CajVbUDs6lZ5ebGnLGlyT0AoKyFokDQIDAQABAkMAvCZ3CJExiEaT0V3x
+v7eW/EZyPZLcfy8WC+DQ0Jirr6RTlmAyqEpMbDWGSCamk/xUJjA20HGVU7kee77
Pd80l/HBAiIA9yLFI8wVXXErBlvlrYZPi+EIZhrygw59c0suuT5ZKGjxAiIAyz2q
xobG/c35r/vqTvtOZRE6EuVWfbUr9xUdAz9mUEzdAiIAgRRCD35qslGHfVzGS6nZ
JmA0+M+eVuFcmLluAAcWnkqhAiEBMBASbvE0xIJkC+XXplJT9uDPAXYa7/ccz4vG
3BT9/SUCIgCZBVZQ+5vZLAmOrpKDdhx/E0gULUc81F+2WsBZBDg1G2w=
-----END RSA PRIVATE KEY-----";
/// By `openssl pkcs8 -topk8 -nocrypt` of it.
const PKCS8: &str = "\
-----BEGIN PRIVATE KEY-----
MIIBXwIBADANBgkqhkiG9w0BAQEFAASCAUkwggFFAgEAAkMAxDQaeRpHHn904rL9
cRGCRBzpadCL9m+55IU2tnhLgkSUFDjyP3UMR3l9XYJqNVtQOzqVnl5sacsaXJPQ
CgrIWiQNAgMBAAECQwC8JncIkTGIRpPRXfH6/t5b8RnI9ktx/LxYL4NDQmKuvpFO
WYDKoSkxsNYZIJqaT/FQmMDbQcZVTuR57vs93zSX8cECIgD3IsUjzBVdcSsGW+Wt
hk+L4QhmGvKDDn1zSy65PlkoaPECIgDLParGhsb9zfmv++pO+05lEToS5VZ9tSv3
FR0DP2ZQTN0CIgCBFEIPfmqyUYd9XMZLqdkmYDT4z55W4VyYuW4ABxaeSqECIQEw
EBJu8TTEgmQL5demUlP24M8Bdhrv9xzPi8bcFP39JQIiAJkFVlD7m9ksCY6ukoN2
HH8TSBQtRzzUX7ZawFkEODUbbA==
-----END PRIVATE KEY-----";

fn key() -> RsaKey {
    RsaKey::parse(&format!("{MODULUS}\n{EXPONENT}\n")).expect("a key")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_key_is_read_in_every_form() {
    let forms = [
        PKCS1.to_owned(),
        PKCS8.to_owned(),
        format!("# of the client\n0x{MODULUS}\n\n0x{EXPONENT}"),
        format!("{MODULUS_DECIMAL}\n{EXPONENT_DECIMAL}\n"),
        format!("security.file.private={EXPONENT}\nsecurity.file.modulus={MODULUS}"),
        format!("n: {MODULUS_DECIMAL}\ne: 65537\nd: {EXPONENT_DECIMAL}"),
        format!(
            "public static final BigInteger JS5_MODULUS = new BigInteger(\"{MODULUS_DECIMAL}\");\n\
             public static final BigInteger JS5_EXPONENT = new BigInteger(\"{EXPONENT}\", 16);"
        ),
    ];
    let expected = key();
    for form in forms {
        let key = RsaKey::parse(&form).unwrap_or_else(|error| panic!("{form}: {error}"));
        assert!(key == expected, "{form}");
    }
}

#[test]
fn a_signature_is_what_others_reckon_with_a_byte_for_its_sign() {
    let mut message = vec![10];
    message.extend(0..64);
    // pow(message, d, n) in Python; its highest bit is set.
    let expected = "00a91ecefbc581b06096763014f593ca79b5c234562732a43b50b4c2d80ce4e8\
                    7137be6b7b581942eee77b8ff5f247d273140ecabcc0db3a85fa109ce2b355eb75e54b";
    assert_eq!(hex(&key().sign(&message)), expected);
    let mut message = vec![10];
    message.extend([0; 64]);
    let expected = "28a00dd5c30c730108a17b9e5dd8d647338a884c24a9688c2534716f0e21f1b5b0\
        ca8c831313b4ff81272d51a5a2e6afa8f06d51d5824ac5f410d62c136c25071400";
    assert_eq!(hex(&key().sign(&message)), expected);
}

#[test]
fn what_is_no_key_is_told_why() {
    let short = "c43005d08d29e77913cd7f0eea7875d08e7d0a4567f28d4d818823486d2c8fe4\
                 4f7fbffbce628465d2f13441a71a567734677a7e3e5ad8cd30ae226855087aef";
    let cases = [
        (String::new(), "there is no modulus"),
        (MODULUS.to_owned(), "there is no private exponent"),
        (format!("{short}\n03"), "a modulus of 512 bits is too short"),
        (format!("{}1\n03", "f".repeat(2_048)), "a modulus of 8196 bits; at most 8192"),
        (format!("{MODULUS}\n65537"), "modulus and exponent do not go together"),
        (format!("{MODULUS}\n{EXPONENT}\n12"), "line 3: another private exponent"),
        (format!("modulus={MODULUS}\nname=12"), "line 2: 'name' is neither a modulus nor"),
        (format!("modulus=\nd={EXPONENT}"), "line 1 has no number"),
        (PKCS8.replace("PRIVATE KEY", "PUBLIC KEY"), "PEM block 'PUBLIC KEY' is no unencrypted"),
        (PKCS8.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"), "PEM block 'ENCRYPTED PRIVATE"),
        (PKCS8.replace("-----END", ""), "the PEM block is damaged: its last line is missing"),
        (PKCS8.replace("MII", "M!!"), "the PEM block is damaged: it is no base64"),
        (PKCS1.replace(" RSA", ""), "PEM block 'PRIVATE KEY' is no unencrypted"),
    ];
    for (text, message) in cases {
        let error = RsaKey::parse(&text).expect_err(message).to_string();
        assert!(error.starts_with(message), "{error}");
    }
}

#[test]
fn a_damaged_key_is_refused_and_never_a_panic() {
    let mut random = fastrand::Rng::with_seed(512);
    let rounds = if cfg!(miri) { 3 } else { 300 };
    let mut refused = 0;
    for _ in 0..rounds {
        let mut bytes = PKCS8.as_bytes().to_vec();
        for _ in 0..random.usize(1..6) {
            let at = random.usize(..bytes.len());
            bytes[at] = random.u8(32..127);
        }
        bytes.truncate(random.usize(1..=bytes.len()));
        // A few are still a key: those whose changes are in bytes that nothing depends on.
        refused += usize::from(RsaKey::parse(&String::from_utf8_lossy(&bytes)).is_err());
    }
    assert!(refused * 10 >= rounds * 9, "{refused} of {rounds} are refused");
}

#[test]
fn a_key_is_not_shown() {
    assert_eq!(format!("{:?}", key()), "RsaKey(528 bits)");
}
