//! The other end, for `js5d status` and `js5d reload`: one request, one answer.

use super::address::Address;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// The longest answer that is taken: a status without history has some 20 KB.
const ANSWER_LEN_MAX: usize = 16 << 20;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// What was said.
    pub text: String,
}

/// Asks the admin address for `path`, and waits for the answer for at most `timeout`.
///
/// # Errors
/// No process listens there, or the answer is not HTTP.
pub fn ask(
    address: &Address,
    method: Method,
    path: &str,
    timeout: Option<Duration>,
) -> io::Result<Answer> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let late = io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
    runtime.block_on(async {
        let asked = async {
            match address {
                Address::Tcp(at) => {
                    converse(TcpStream::connect(at).await?, at.to_string(), method, path).await
                }
                Address::Unix(at) => {
                    converse(UnixStream::connect(at).await?, "localhost".into(), method, path).await
                }
            }
        };
        match timeout {
            None => asked.await,
            Some(timeout) => tokio::select! {
                answer = asked => answer,
                () = tokio::time::sleep(timeout) => Err(late),
            },
        }
    })
}

async fn converse<S>(socket: S, host: String, method: Method, path: &str) -> io::Result<Answer>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, host)
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(io::Error::other)?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(socket)).await.map_err(io::Error::other)?;
    let answered = async {
        let answer = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), ANSWER_LEN_MAX).collect().await;
        let bytes = body.map_err(io::Error::other)?.to_bytes();
        let text = String::from_utf8(bytes.into()).map_err(io::Error::other)?;
        Ok(Answer { status, text })
    };
    // The connection has to be driven while its answer is awaited.
    let (answer, _) = tokio::join!(answered, connection);
    answer
}
