//! What agent, launcher and pod shim say to each other. An old shim may meet a new agent: fields are only ever added, and
//! an operation that a shim does not know is refused by name, not by hanging up.

use crate::runtime::StartError;
use crate::spec::{ContainerConfig, ContainerState, Exit, PodConfig};
use oci_spec::runtime::Process;
use serde::{Deserialize, Serialize};

/// Agent to launcher, with two descriptors: the shim's end of its first connection, and the network namespace. There is
/// no answer from the launcher: whoever holds the connection answers on it, and if nobody does it closes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CreatePod {
    pub(crate) config: PodConfig,
}

/// Agent to pod shim.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) id: u64,
    #[serde(flatten)]
    pub(crate) operation: Operation,
}

/// What is left of a [`Request`] from the future.
#[derive(Debug, Deserialize)]
pub(crate) struct AnyRequest {
    pub(crate) id: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "operation", rename_all = "snake_case")]
pub(crate) enum Operation {
    Start {
        config: ContainerConfig,
    },
    Signal {
        target: String,
        signal: i32,
        all: bool,
    },
    /// With the descriptors that `streams` names, in its order.
    Exec {
        container_id: String,
        process: Box<Process>,
        streams: Streams,
    },
    Attach {
        container_id: String,
        streams: Streams,
    },
    Resize {
        target: String,
        rows: u16,
        cols: u16,
    },
    ReopenLog {
        container_id: String,
    },
    Remove {
        container_id: String,
    },
    Shutdown,
}

/// Which of the standard streams come with a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Streams {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

/// Pod shim to agent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum FromShim {
    /// First on every connection.
    Hello {
        pid: i32,
        containers: Vec<ContainerState>,
    },
    /// Instead of the first hello: the shim could not set itself up, and is gone.
    Failed {
        message: String,
    },
    Reply {
        id: u64,
        outcome: Result<Answer, Refusal>,
    },
    Exited {
        id: String,
        exit: Exit,
    },
    ExecExited {
        exec_id: String,
        exit: Exit,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    Done,
    State(Box<ContainerState>),
    /// With the console's descriptor, if `console`.
    Exec {
        exec_id: String,
        pid: i32,
        console: bool,
    },
    Attached {
        attach_id: u64,
    },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Refusal {
    Start(StartError),
    NotFound { what: String },
    Other { message: String },
}
