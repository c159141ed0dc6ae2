//! A watch over a WebSocket, as browsers watch: each event is a message, text if it is JSON and binary if it is protobuf. What the
//! client says is not listened to; when it goes, the watch ends.

use super::watch_stream::WatchStream;
use axum::extract::FromRequestParts as _;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use bytes::Bytes;
use catamaran_api::Status;
use http::{HeaderMap, header, request};

/// The longest message of a client that is read before the connection is given up. None is expected.
const LONGEST_MESSAGE: usize = 64 << 10;

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

/// The answer that upgrades.
pub(super) async fn response(stream: WatchStream, mut head: request::Parts) -> Result<Response, Status> {
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
    Ok(upgrade
        .protocols(protocols)
        .max_message_size(LONGEST_MESSAGE)
        .on_upgrade(|socket| serve(stream, socket)))
}

async fn serve(mut stream: WatchStream, mut socket: WebSocket) {
    loop {
        let messages = tokio::select! {
            messages = stream.next_messages() => messages,
            said = socket.recv() => match said {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => continue,
            },
        };
        let Some(messages) = messages else {
            let end = CloseFrame {
                code: axum::extract::ws::close_code::NORMAL,
                reason: Utf8Bytes::default(),
            };
            let _ = socket.send(Message::Close(Some(end))).await;
            return;
        };
        for bytes in messages {
            let Some(message) = message(bytes, stream.is_text()) else {
                return;
            };
            if socket.send(message).await.is_err() {
                return;
            }
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
