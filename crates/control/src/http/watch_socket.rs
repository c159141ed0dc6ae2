//! A watch over a WebSocket, as browsers watch: each event is a message, text if it is JSON and binary if it is protobuf. What the
//! client says is not listened to; when it goes, the watch ends.

use super::session::Session;
use super::watch_stream::WatchStream;
use axum::extract::FromRequestParts as _;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use bytes::Bytes;
use catamaran_api::Status;
use http::{HeaderMap, header, request};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The longest message of a client that is read before the connection is given up. None is expected.
const LONGEST_MESSAGE: usize = 64 << 10;

/// How long a client may take for what is left to send, once the watch or the server ends.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// Does the client want to upgrade?
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let names = |name: header::HeaderName, wanted: &str| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values
            .flat_map(|value| value.split(','))
            .any(|word| word.trim().eq_ignore_ascii_case(wanted))
    };
    names(header::UPGRADE, "websocket") && names(header::CONNECTION, "upgrade")
}

/// The answer that upgrades. What is counted and told about the request lasts as long as the watch.
pub(super) async fn response(
    stream: WatchStream,
    mut head: request::Parts,
    shutdown: CancellationToken,
) -> Result<Response, Status> {
    let protocols: Vec<String> = head
        .headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|protocol| protocol.trim().to_owned())
        .filter(|protocol| !protocol.is_empty())
        .collect();
    // Events are the same in all protocols: one that is named alone is agreed to, among several there is nothing to choose by.
    if protocols.len() > 1 {
        return Err(Status::bad_request("missing or bad WebSocket-Protocol"));
    }
    let upgrade = WebSocketUpgrade::from_request_parts(&mut head, &()).await;
    let upgrade = upgrade.map_err(|error| Status::bad_request(error.body_text()))?;
    let session = Session::of(&head.extensions);
    let lasting = session.clone();
    let mut response = upgrade
        .protocols(protocols)
        .max_message_size(LONGEST_MESSAGE)
        .on_upgrade(async move |socket| {
            let late = late(stream.deadline(), shutdown);
            tokio::select! {
                () = serve(stream, socket) => {}
                () = late => tracing::debug!("the client of a watch does not read what it is sent"),
            }
            drop(lasting);
        });
    session.mark(&mut response);
    Ok(response)
}

/// Until a watch that goes on for so long is one whose client does not listen.
async fn late(deadline: Instant, shutdown: CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep_until(deadline) => {}
        () = shutdown.cancelled() => {}
    }
    tokio::time::sleep(END_PATIENCE).await;
}

async fn serve(mut stream: WatchStream, mut socket: WebSocket) {
    while let Some(messages) = next_messages(&mut stream, &mut socket).await {
        let Some(messages) = messages else { return };
        for bytes in messages {
            let Some(message) = message(bytes, stream.is_text()) else {
                return;
            };
            if socket.send(message).await.is_err() {
                return;
            }
        }
    }
    let end = CloseFrame {
        code: axum::extract::ws::close_code::NORMAL,
        reason: Utf8Bytes::default(),
    };
    let _ = socket.send(Message::Close(Some(end))).await;
}

/// What to send next; nothing once the watch is over, and no messages once the client is gone. Whatever the client says
/// meanwhile, the watch goes on looking where it is.
async fn next_messages(stream: &mut WatchStream, socket: &mut WebSocket) -> Option<Option<Vec<Bytes>>> {
    let mut next = std::pin::pin!(stream.next_messages());
    loop {
        tokio::select! {
            messages = &mut next => return messages.map(Some),
            said = socket.recv() => match said {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Some(None),
                Some(Ok(_)) => {}
            },
        }
    }
}

fn message(bytes: Bytes, is_text: bool) -> Option<Message> {
    if is_text {
        return Utf8Bytes::try_from(bytes).ok().map(Message::Text);
    }
    Some(Message::Binary(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_headers_have_to_say_so() {
        for (connection, upgrade, expected) in [
            ("Upgrade", "websocket", true),
            ("keep-alive, upgrade", "WebSocket", true),
            ("keep-alive", "websocket", false),
            ("upgrade", "SPDY/3.1", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONNECTION, http::HeaderValue::from_static(connection));
            headers.insert(header::UPGRADE, http::HeaderValue::from_static(upgrade));
            assert_eq!(is_wanted(&headers), expected, "{connection} {upgrade}");
        }
    }
}
