//! The admin thread with a reload of the test's own.

use super::*;
use crate::admin::client::{Answer, ask};
use crate::admin::{ReloadRefused, bind, state};
use hyper::Method;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

type Reload = Arc<dyn Fn() -> Result<String, ReloadRefused> + Send + Sync>;

fn serve_with(reload: Reload) -> Address {
    let (sources, options) = state::tests::quiet();
    let any = "127.0.0.1:0".parse().expect("an address");
    let bound = bind(&any).expect("a free port");
    let address = bound.address().expect("a port");
    let sources = Sources { reload, ..sources };
    let options = Options { connections_max: 4, ..options };
    let _admin = start(vec![bound], sources, options).expect("a thread");
    address
}

fn post(address: &Address) -> (u16, String) {
    let Answer { status, text } = ask(address, Method::POST, "/reload", None).expect("an answer");
    (status, text)
}

#[test]
fn the_answer_to_a_reload_is_its_result() {
    for (result, status, text) in [
        (Ok("generation 2 replaces 1".to_owned()), 200, "generation 2 replaces 1\n"),
        (Err(ReloadRefused::Failed("archive 7 is corrupt".into())), 422, "archive 7 is corrupt\n"),
        (Err(ReloadRefused::Unavailable("not here".into())), 503, "not here\n"),
    ] {
        let address = serve_with(Arc::new(move || result.clone()));
        assert_eq!(post(&address), (status, text.to_owned()));
        assert_eq!(post(&address).0, status, "and it may be asked again");
    }
}

#[test]
fn other_questions_are_answered_while_a_reload_runs() {
    let (begun, has_begun): (Sender<()>, Receiver<()>) = channel();
    let (go_on, may_go_on): (Sender<()>, Receiver<()>) = channel();
    let may_go_on = Mutex::new(may_go_on);
    let address = serve_with(Arc::new(move || {
        begun.send(()).expect("the test listens");
        may_go_on.lock().expect("one at a time").recv().expect("the test says so");
        Ok("done".into())
    }));
    let first = thread::spawn({
        let address = address.clone();
        move || post(&address)
    });
    has_begun.recv().expect("it begins");
    let metrics = ask(&address, Method::GET, "/metrics", None).expect("an answer");
    assert!(metrics.text.contains("js5d_draining 0"));
    assert_eq!(post(&address).0, 409, "one at a time");
    go_on.send(()).expect("it waits");
    assert_eq!(first.join().expect("an answer"), (200, "done\n".to_owned()));
}
