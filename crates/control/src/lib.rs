//! The Kubernetes API server and the assembly of the control plane.
