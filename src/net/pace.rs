//! How much a peer is sent at once, by how it takes it in. Pure state.

/// The most that one operation sends: 64 KB cost 18 % more at 100 KB a group, 1 MB 50 %
/// (docs/decisions/0002).
const SEND_LEN_MAX: usize = 256 << 10;

/// Batches up to this length are sent directly first: 219 ns a request against 254 by the ring
/// alone, at 1,000 connections.
pub(super) const DIRECT_LEN_MAX: usize = 64 << 10;

/// What a slow peer gets at once. An urgent response waits behind no more than this and the
/// kernel's share, [`SLOW_UNSENT_MAX`].
const SLOW_SEND_LEN_MAX: usize = 16 << 10;

/// Unsent bytes that the kernel keeps for any peer. What it has not put onto the line it cannot
/// take back: without a bound a peer that reads nothing ties up megabytes, and an urgent
/// response waits behind them. Measured to cost nothing (docs/decisions/0005).
pub(super) const UNSENT_MAX: u32 = 32 << 10;

/// Unsent bytes that the kernel keeps for a slow peer.
pub(super) const SLOW_UNSENT_MAX: u32 = 16 << 10;

/// Direct sends in a row that must go through at once for a slow peer to count as fast again.
const FAST_AFTER_SENDS: u8 = 8;

/// How a peer takes in what it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Nothing is known yet: direct sends only, so that a full socket shows.
    Fresh,
    /// A full direct send went through at once.
    Fast,
    /// The socket was full; counts the sends that went through since.
    Slow(u8),
}

impl Pace {
    pub(super) fn is_slow(self) -> bool {
        matches!(self, Self::Slow(_))
    }

    /// How much to send at once.
    pub(super) fn send_len_max(self) -> usize {
        match self {
            Self::Fresh => DIRECT_LEN_MAX,
            Self::Fast => SEND_LEN_MAX,
            Self::Slow(_) => SLOW_SEND_LEN_MAX,
        }
    }

    /// The socket took `sent` bytes, all there were, at once. True if the peer is slow no more.
    #[inline]
    pub(super) fn speed_up(&mut self, sent: usize) -> bool {
        match *self {
            Self::Fresh if sent < DIRECT_LEN_MAX => {}
            Self::Fresh | Self::Fast => *self = Self::Fast,
            Self::Slow(sends) if sends + 1 < FAST_AFTER_SENDS => *self = Self::Slow(sends + 1),
            Self::Slow(_) => {
                *self = Self::Fast;
                return true;
            }
        }
        false
    }

    /// The socket is full, or a send took long. True if the peer was not slow before.
    pub(super) fn slow_down(&mut self) -> bool {
        !std::mem::replace(self, Self::Slow(0)).is_slow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_peer_is_fast_again_after_eight_sends() {
        let mut pace = Pace::Fresh;
        assert!(!pace.speed_up(100));
        assert_eq!(pace, Pace::Fresh, "a small send shows nothing");
        assert!(!pace.speed_up(DIRECT_LEN_MAX));
        assert_eq!(pace.send_len_max(), SEND_LEN_MAX);
        assert!(pace.slow_down());
        assert!(!pace.slow_down(), "it was slow already");
        let sends: Vec<bool> = (0..8).map(|_| pace.speed_up(1)).collect();
        assert_eq!(sends, [false, false, false, false, false, false, false, true]);
        assert_eq!(pace, Pace::Fast);
    }
}
