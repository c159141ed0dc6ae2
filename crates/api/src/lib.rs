//! Values every part of Catamaran shares: Kubernetes object metadata, selectors, quantities, patches, schemas.
