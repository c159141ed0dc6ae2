//! What has to last as long as a connection that was upgraded. Its answer is over as soon as it begins, and hyper hands the
//! connection to whoever asked for it: the place it takes, the request it is counted as and the audit event that tells of its
//! end would all be given up with the answer.

use super::activity::Connection;
use axum::response::Response;
use http::Extensions;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What is let go when the last clone is dropped.
#[derive(Clone)]
pub(crate) struct Session(Arc<Mutex<Vec<Box<dyn Send>>>>);

impl Session {
    /// For a request that came over a connection, or from within.
    pub(crate) fn of(request: &Extensions) -> Self {
        let connection = request.get::<Connection>().cloned();
        let held = connection.map(|connection| Box::new(connection) as Box<dyn Send>);
        Session(Arc::new(Mutex::new(held.into_iter().collect())))
    }

    /// Says of an answer that it begins this, and goes on with `work` until the server ends.
    pub(crate) fn run(
        self,
        response: &mut Response,
        work: impl Future<Output = ()> + Send + 'static,
        shutdown: CancellationToken,
    ) {
        self.mark(response);
        tokio::spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = work => {}
            }
            drop(self);
        });
    }

    /// Says of an answer that it begins this.
    pub(super) fn mark(&self, response: &mut Response) {
        response.extensions_mut().insert(self.clone());
    }

    /// What an answer begins, if it upgrades.
    pub(super) fn begun(response: &Response) -> Option<&Session> {
        response.extensions().get()
    }

    pub(super) fn hold(&self, what: impl Send + 'static) {
        self.0.lock().push(Box::new(what));
    }
}
