//! Another server's part of the v2 document. The document has all of its groups, is long, and takes long to read, so it is asked
//! for as seldom as possible: when the hash of the v3 document changes, or, without one, now and then and only if it changed.

use super::Backend;
use super::availability::Answer;
use http::{HeaderValue, StatusCode};
use parking_lot::Mutex;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How often a server is asked whether its document changed, or again for one that did not come …
const EVERY: Duration = Duration::from_secs(60);
/// … and one that would send all of it each time.
const SELDOM: Duration = Duration::from_secs(10 * 60);

/// What is known of the document.
#[derive(Default)]
pub(super) struct Cache(Mutex<State>);

#[derive(Clone, Debug, Default)]
struct State {
    /// That of the v3 document when this one was asked for.
    hash: Option<String>,
    etag: Option<HeaderValue>,
    /// Did the server say what there is, even if it was nothing?
    settled: bool,
    /// When it is asked again, if no hash says that it has to be, or need not be. `None`: it never was.
    due: Option<Instant>,
    part: Option<Arc<Value>>,
}

impl State {
    fn is_due(&self, hash: Option<&str>, now: Instant) -> bool {
        let same = hash.is_some() && self.hash.as_deref() == hash;
        let new = hash.is_some() && !same;
        new || (!(same && self.settled) && self.due.is_none_or(|due| now >= due))
    }

    /// Takes in what came of asking. A document is read by `read`.
    async fn answered(
        &mut self,
        hash: Option<&str>,
        answer: Result<Answer, String>,
        now: Instant,
        read: impl AsyncFnOnce(Answer) -> Option<Value>,
    ) {
        self.hash = hash.map(ToOwned::to_owned);
        let Ok(answer) = answer else {
            (self.settled, self.due) = (false, Some(now + EVERY));
            return;
        };
        match answer.status {
            StatusCode::NOT_MODIFIED => self.settled = true,
            status if status.is_success() => {
                self.settled = true;
                self.etag.clone_from(&answer.etag);
                self.part = read(answer).await.map(Arc::new);
            }
            // It has none.
            status if status.is_client_error() => {
                (self.settled, self.etag, self.part) = (true, None, None);
            }
            _ => self.settled = false,
        }
        let asks_cheaply = self.etag.is_some() || !self.settled;
        self.due = Some(now + if asks_cheaply { EVERY } else { SELDOM });
    }
}

impl Backend {
    /// The part of the document that is about this version; `hash` is that of its v3 document. What is known stays while the
    /// server does not answer.
    pub(super) async fn openapi_v2(&self, hash: Option<&str>) -> Option<Arc<Value>> {
        let mut state = self.openapi_v2.0.lock().clone();
        if !state.is_due(hash, Instant::now()) {
            return state.part;
        }
        let answer = self.ask("/openapi/v2", state.etag.as_ref()).await;
        let prefix = format!("/apis/{}/", self.target.api_version());
        let read = async move |answer: Answer| {
            let part = move || crate::openapi::merge::part(serde_json::from_slice(&answer.bytes).ok()?, &prefix);
            tokio::task::spawn_blocking(part).await.ok()?
        };
        state.answered(hash, answer, Instant::now(), read).await;
        let part = state.part.clone();
        *self.openapi_v2.0.lock() = state;
        part
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use serde_json::json;

    #[tokio::test]
    async fn documents_are_asked_for_seldom() {
        let now = Instant::now();
        let answer = |status: u16, etag: Option<&'static str>| {
            Ok(Answer {
                status: StatusCode::from_u16(status).unwrap(),
                etag: etag.map(HeaderValue::from_static),
                bytes: Bytes::new(),
            })
        };
        let read = async |_: Answer| Some(json!({}));
        let mut state = State::default();
        assert!(state.is_due(None, now) && state.is_due(Some("A"), now));
        // A hash says all, also about what is not there.
        for status in [200, 404] {
            state.answered(Some("A"), answer(status, None), now, read).await;
            assert_eq!(state.part.is_some(), status == 200);
            assert!(!state.is_due(Some("A"), now + SELDOM * 2), "{status}");
            assert!(state.is_due(Some("B"), now), "{status}");
        }
        // What did not come is asked for again, but not at once.
        for failed in [Err(String::new()), answer(503, None)] {
            state.answered(Some("B"), failed, now, read).await;
            assert_eq!([now, now + EVERY].map(|at| state.is_due(Some("B"), at)), [false, true]);
        }
        // Without a hash, it depends on what asking costs.
        state.answered(None, answer(200, None), now, read).await;
        let due = |state: &State| [now, now + EVERY, now + SELDOM].map(|at| state.is_due(None, at));
        assert_eq!(due(&state), [false, false, true]);
        state.answered(None, answer(200, Some("\"x\"")), now, read).await;
        assert_eq!(due(&state), [false, true, true]);
        state.answered(None, answer(304, None), now, read).await;
        assert_eq!((due(&state), state.part.is_some()), ([false, true, true], true));
        state.answered(None, answer(404, None), now, read).await;
        assert_eq!((due(&state), state.part.is_some()), ([false, false, true], false));
        state
            .answered(None, answer(200, None), now, async |_: Answer| None)
            .await;
        assert_eq!(due(&state), [false, false, true]);
    }
}
