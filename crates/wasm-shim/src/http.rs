//! Serves a `wasi:http` component: one instance per request, from a pool.
//!
//! ```text
//!  accept (main thread) ──▶ the worker with the fewest connections ──▶ hyper (HTTP/1.1, h2c) ──▶ instance ──▶ response
//! ```
//!
//! An idle service is one thread that nothing wakes. More workers, each with an event loop of its own, start when
//! connections come in while all present ones are busy, up to the CPUs the container may use. A guest that computes
//! without end is interrupted every few milliseconds of CPU time (`sys::advance_epochs_with_cpu_time`) to let the other
//! requests of its thread go on, and dropped at the deadline.

use crate::child::{Report, start_error};
use crate::command::describe_trap;
use crate::guest::{Guest, World};
use crate::stdio::Streams;
use crate::{engine, sys};
use bytes::Bytes;
use futures::FutureExt as _;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use std::convert::Infallible;
use std::net::{TcpListener as StdListener, TcpStream as StdStream};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;
use wasmtime::component::InstancePre;
use wasmtime::{PoolConcurrencyLimitError, Store};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p3::bindings::ServicePre;
use wasmtime_wasi_http::{WasiBody, WasiHttpView as _};

/// How long a guest may take until it has answered with a status and headers. The body may take any time.
const RESPONSE_DEADLINE: Duration = Duration::from_secs(600);

/// How long an instance may go on after its response was read to the end, or the client left: for work it does not want
/// the client to wait for.
const AFTERLIFE: Duration = Duration::from_secs(30);

/// How long a client may take to send its request's headers.
const HEADER_DEADLINE: Duration = Duration::from_secs(60);

const WASM_PAGE_BYTES: u64 = 64 * 1024;

/// Most worker threads of one container.
const WORKERS_MAX: usize = 16;

/// A guest that computes yields after every epoch; sockets and timers are looked at after this many turns.
const TURNS_BETWEEN_EVENTS: u32 = 8;

/// Stack of helper threads (file access, name lookups), bytes.
const HELPER_STACK_BYTES: usize = 256 * 1024;

/// Pause after the system has refused a connection (out of descriptors), instead of a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until SIGTERM or SIGINT, then answers what was accepted and ends. Returns the exit code.
pub(crate) fn serve(
    component: &InstancePre<Guest>,
    world: &World,
    listener: StdListener,
    threads: usize,
    report: &mut Report,
) -> i32 {
    let service = match Service::new(component, world) {
        Ok(service) => Arc::new(service),
        Err(error) => return report.failed(&start_error("cannot serve the component", error.as_ref(), 126)),
    };
    let ready = sys::advance_epochs_with_cpu_time(component.engine())
        .and_then(|()| listener.set_nonblocking(true))
        .and_then(|()| event_loop());
    match ready {
        Ok(runtime) => {
            let workers = Workers::new(&service, threads.clamp(1, WORKERS_MAX));
            runtime.block_on(accept(listener, workers, report))
        }
        Err(error) => report.failed(&start_error("cannot start the server", &error, 128)),
    }
}

fn event_loop() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .event_interval(TURNS_BETWEEN_EVENTS)
        .thread_stack_size(HELPER_STACK_BYTES)
        .build()
}

async fn accept(listener: StdListener, mut workers: Workers, report: &mut Report) -> i32 {
    let ready = || -> std::io::Result<_> {
        let terminate = signal(SignalKind::terminate())?;
        Ok((
            TcpListener::from_std(listener)?,
            terminate,
            signal(SignalKind::interrupt())?,
        ))
    };
    let (listener, mut terminate, mut interrupt) = match ready() {
        Ok(ready) => ready,
        Err(error) => return report.failed(&start_error("cannot start the server", &error, 128)),
    };
    report.started();
    let graceful = GracefulShutdown::new();
    loop {
        tokio::select! {
            biased;
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _peer)) => workers.assign(stream, graceful.watcher()),
                // The client's fault or a shortage; neither ends the service.
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
        }
    }
    drop(listener);
    graceful.shutdown().await;
    0
}

/// Event loops connections are spread over. The first is the accepting thread's own.
struct Workers {
    service: Arc<Service>,
    max: usize,
    own_load: Arc<AtomicUsize>,
    others: Vec<Worker>,
}

struct Worker {
    connections: mpsc::UnboundedSender<(StdStream, Watcher)>,
    load: Arc<AtomicUsize>,
}

impl Workers {
    fn new(service: &Arc<Service>, max: usize) -> Workers {
        Workers {
            service: Arc::clone(service),
            max,
            own_load: Arc::default(),
            others: Vec::new(),
        }
    }

    fn assign(&mut self, stream: TcpStream, watcher: Watcher) {
        let _ = stream.set_nodelay(true);
        let service = Arc::clone(&self.service);
        match self.least_loaded() {
            None => {
                let load = Load::of(&self.own_load);
                tokio::spawn(connection(service, stream, watcher, load));
            }
            Some(worker) => {
                let Ok(stream) = stream.into_std() else { return };
                worker.load.fetch_add(1, Ordering::Relaxed);
                // Workers never end before the process does.
                let _ = worker.connections.send((stream, watcher));
            }
        }
    }

    /// `None`: the accepting thread's own loop.
    fn least_loaded(&mut self) -> Option<&Worker> {
        let own = self.own_load.load(Ordering::Relaxed);
        let loads = self
            .others
            .iter()
            .map(|worker| worker.load.load(Ordering::Relaxed))
            .enumerate();
        let best = loads.min_by_key(|(_, load)| *load);
        match best {
            _ if own == 0 => None,
            Some((index, load)) if load < own && (load == 0 || self.others.len() + 1 >= self.max) => {
                self.others.get(index)
            }
            _ if self.others.len() + 1 < self.max => {
                self.others.push(Worker::start(&self.service)?);
                self.others.last()
            }
            Some((index, load)) if load < own => self.others.get(index),
            _ => None,
        }
    }
}

impl Worker {
    /// `None` if there cannot be another thread (a pids limit, for instance): the present ones do the work then.
    fn start(service: &Arc<Service>) -> Option<Worker> {
        let (connections, mut incoming) = mpsc::unbounded_channel::<(StdStream, Watcher)>();
        let load = Arc::new(AtomicUsize::new(0));
        let (service, own_load) = (Arc::clone(service), Arc::clone(&load));
        let runtime = event_loop().ok()?;
        let work = move || {
            runtime.block_on(async {
                while let Some((stream, watcher)) = incoming.recv().await {
                    let load = Load::taken(&own_load);
                    if let Ok(stream) = TcpStream::from_std(stream) {
                        tokio::spawn(connection(Arc::clone(&service), stream, watcher, load));
                    }
                }
            });
        };
        std::thread::Builder::new()
            .name("wasm-http".to_owned())
            .spawn(work)
            .ok()?;
        Some(Worker { connections, load })
    }
}

/// One connection's weight on its worker.
struct Load(Arc<AtomicUsize>);

impl Load {
    fn of(counter: &Arc<AtomicUsize>) -> Load {
        counter.fetch_add(1, Ordering::Relaxed);
        Load::taken(counter)
    }

    /// Already counted by whoever assigned the connection.
    fn taken(counter: &Arc<AtomicUsize>) -> Load {
        Load(Arc::clone(counter))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn connection(service: Arc<Service>, stream: TcpStream, watcher: Watcher, _load: Load) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_DEADLINE);
    builder.http2().timer(TokioTimer::new());
    let respond = service_fn(move |request| {
        let service = Arc::clone(&service);
        async move { Ok::<_, Infallible>(service.respond(request).await) }
    });
    let connection = builder.serve_connection(TokioIo::new(stream), respond).into_owned();
    // Clients come and go; what went wrong with a request was logged with it.
    let _ = watcher.watch(connection).await;
}

/// The release of `wasi:http` a component speaks.
enum Proxy {
    P2(ProxyPre<Guest>),
    P3(ServicePre<Guest>),
}

struct Service {
    proxy: Proxy,
    world: World,
    /// Instances that may still be made.
    places: Arc<Semaphore>,
}

/// Why a request got no answer from the guest.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the request is not one a component can be given")]
    Request(#[source] wasmtime::Error),
    #[error("{}", describe_trap(.0))]
    Trap(wasmtime::Error),
    #[error("the component answered with the error {0}")]
    Refused(String),
    #[error("the component returned without a response")]
    NoResponse,
    #[error("no response within {} s", RESPONSE_DEADLINE.as_secs())]
    Deadline,
    #[error("there are as many instances as the pool has places for")]
    Busy,
}

impl Failure {
    fn status(&self) -> StatusCode {
        match self {
            Failure::Request(_) => StatusCode::BAD_REQUEST,
            Failure::Deadline => StatusCode::GATEWAY_TIMEOUT,
            Failure::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Failure::Trap(_) | Failure::Refused(_) | Failure::NoResponse => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

type Answer = Result<Response<WasiBody>, Failure>;

impl Service {
    fn new(component: &InstancePre<Guest>, world: &World) -> wasmtime::Result<Service> {
        let proxy = match ProxyPre::new(component.clone()) {
            Ok(proxy) => Proxy::P2(proxy),
            Err(_) => Proxy::P3(ServicePre::new(component.clone())?),
        };
        // Opening directories for every request would be a waste where nobody can ask for them.
        let component = component.component();
        let component_type = component.component_type();
        let mut imports = component_type.imports(component.engine());
        let mut world = world.clone();
        if !imports.any(|(name, _)| name.starts_with("wasi:filesystem/")) {
            world.dirs.clear();
        }
        world.guest(Streams::OutputOnly)?;
        let needs = component.resources_required();
        if let Some(pages) = needs.as_ref().and_then(|needs| needs.max_initial_memory_size) {
            world.budget.check_first(pages.saturating_mul(WASM_PAGE_BYTES))?;
        }
        let memories = needs.map_or(1, |needs| needs.num_memories.max(1));
        let places = engine::SERVICE_INSTANCES / memories;
        Ok(Service {
            proxy,
            world,
            places: Arc::new(Semaphore::new(places.max(1) as usize)),
        })
    }

    async fn respond(self: Arc<Self>, request: Request<Incoming>) -> Response<WasiBody> {
        let line = format!("{} {}", request.method(), request.uri().path());
        match self.answer(request).await {
            Ok(response) => response,
            Err(failure) => {
                let status = failure.status();
                let cause = std::error::Error::source(&failure)
                    .map(|cause| format!(": {cause}"))
                    .unwrap_or_default();
                eprintln!("catamaran: {line}: {}: {failure}{cause}", status.as_u16());
                plain(status)
            }
        }
    }

    async fn answer(self: &Arc<Self>, request: Request<Incoming>) -> Answer {
        let (sender, receiver) = oneshot::channel();
        let (done, finished) = oneshot::channel();
        let service = Arc::clone(self);
        let guest = tokio::spawn(async move { service.call(request, sender, finished).await });
        // A client that leaves before the response, or the deadline, ends the guest.
        let mut guest = AbortOnDrop(Some(guest.abort_handle()));
        match tokio::time::timeout(RESPONSE_DEADLINE, receiver).await {
            Ok(Ok(answer)) => {
                guest.0 = None;
                answer.map(|response| response.map(|body| ObservedBody { body, _done: done }.boxed_unsync()))
            }
            Ok(Err(_)) => Err(Failure::NoResponse),
            Err(_) => Err(Failure::Deadline),
        }
    }

    /// The life of one instance: until the guest has returned and, for 0.3, its response's body was read.
    async fn call(&self, request: Request<Incoming>, answer: oneshot::Sender<Answer>, finished: oneshot::Receiver<()>) {
        let Ok(_place) = Arc::clone(&self.places).acquire_owned().await else {
            return;
        };
        let guest = match self.world.guest(Streams::OutputOnly) {
            Ok(guest) => guest,
            Err(error) => return drop(answer.send(Err(Failure::Trap(error)))),
        };
        let engine = match &self.proxy {
            Proxy::P2(proxy) => proxy.engine(),
            Proxy::P3(service) => service.engine(),
        };
        let mut store = Store::new(engine, guest);
        store.limiter(|guest| &mut guest.limiter);
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        let read: BodyRead = finished.shared();
        let overdue = async {
            let _ = read.clone().await;
            tokio::time::sleep(AFTERLIFE).await;
        };
        let work = async {
            match &self.proxy {
                Proxy::P2(proxy) => call_p2(proxy, &mut store, request, answer).await,
                Proxy::P3(service) => call_p3(service, &mut store, request, answer, read.clone()).await,
            }
        };
        tokio::select! {
            () = work => {}
            () = overdue => eprintln!("catamaran: an instance was still at work {} s after its response", AFTERLIFE.as_secs()),
        }
    }
}

/// Resolves when the response's body was read, or given up.
type BodyRead = futures::future::Shared<oneshot::Receiver<()>>;

/// The one place an answer goes to; the guest and whoever watches over it both have it, the first one counts.
#[derive(Clone)]
struct AnswerOnce(Arc<std::sync::Mutex<Option<oneshot::Sender<Answer>>>>);

impl AnswerOnce {
    fn new(sender: oneshot::Sender<Answer>) -> AnswerOnce {
        AnswerOnce(Arc::new(std::sync::Mutex::new(Some(sender))))
    }

    fn take(&self) -> Option<oneshot::Sender<Answer>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    }

    fn send(&self, answer: Answer) {
        if let Some(sender) = self.take() {
            // The client may be gone.
            let _ = sender.send(answer);
        }
    }

    fn fail(&self, error: wasmtime::Error) {
        let full = error.is::<PoolConcurrencyLimitError>();
        let failure = if full { Failure::Busy } else { Failure::Trap(error) };
        match self.take() {
            Some(sender) => drop(sender.send(Err(failure))),
            // Too late for a status: the client sees its body end early, the log the reason.
            None => eprintln!("catamaran: after the response began: {failure}"),
        }
    }
}

async fn call_p2(
    proxy: &ProxyPre<Guest>,
    store: &mut Store<Guest>,
    request: Request<Incoming>,
    answer: oneshot::Sender<Answer>,
) {
    let answer = AnswerOnce::new(answer);
    let to_client = answer.clone();
    let respond = move |response: Result<_, wasmtime_wasi_http::p2::bindings::http::types::ErrorCode>| {
        to_client.send(response.map_err(|code| Failure::Refused(format!("{code:?}"))));
    };
    let mut http = store.data_mut().http();
    let given = http
        .new_incoming_request(Scheme::Http, request)
        .and_then(|request| Ok((request, http.new_response_outparam_from_callback(respond)?)));
    let (request, outparam) = match given {
        Ok(given) => given,
        Err(error) => return answer.send(Err(Failure::Request(error))),
    };
    let called = async {
        let instance = proxy.instantiate_async(&mut *store).await?;
        instance
            .wasi_http_incoming_handler()
            .call_handle(&mut *store, request, outparam)
            .await
    };
    match called.await {
        Ok(()) => answer.send(Err(Failure::NoResponse)),
        Err(error) => answer.fail(error),
    }
}

async fn call_p3(
    service: &ServicePre<Guest>,
    store: &mut Store<Guest>,
    request: Request<Incoming>,
    answer: oneshot::Sender<Answer>,
    read: BodyRead,
) {
    let answer = AnswerOnce::new(answer);
    let called = async {
        let instance = service.instantiate_async(&mut *store).await?;
        let request = request.map(|body| body.map_err(wasmtime_wasi_http::Error::from).boxed_unsync());
        let (request, sent) = wasmtime_wasi_http::p3::Request::from_http(store.data_mut().http().hooks, request);
        store
            .run_concurrent(async |accessor| {
                match instance.handle(accessor, request).await? {
                    Ok(response) => {
                        let response = accessor.with(|store| response.into_http(store, sent))?;
                        answer.send(Ok(response));
                        // The body is produced by the guest while the client reads it.
                        let _ = read.await;
                    }
                    Err(code) => answer.send(Err(Failure::Refused(format!("{code:?}")))),
                }
                wasmtime::error::Ok(())
            })
            .await?
    };
    if let Err(error) = called.await {
        answer.fail(error);
    }
}

fn plain(status: StatusCode) -> Response<WasiBody> {
    let text = format!("{status}\n");
    let body = Full::new(Bytes::from(text))
        .map_err(|never: Infallible| match never {})
        .boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(
        hyper::header::CONTENT_TYPE,
        http::HeaderValue::from_static("text/plain"),
    );
    response
}

/// Ends the guest's task when nobody waits for it any more.
struct AbortOnDrop(Option<AbortHandle>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        if let Some(handle) = &self.0 {
            handle.abort();
        }
    }
}

/// A response's body, whose end is noticed.
struct ObservedBody {
    body: WasiBody,
    /// Dropped with the body.
    _done: oneshot::Sender<()>,
}

impl hyper::body::Body for ObservedBody {
    type Data = Bytes;
    type Error = wasmtime_wasi_http::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
