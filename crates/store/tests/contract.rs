//! Every backend keeps every promise.

use catamaran_store::contract::{self, Factory};
use catamaran_store::{Mem, Options, Sqlite, Store, for_each_promise};
use std::path::PathBuf;
use std::sync::Arc;

struct Memory;

impl Factory for Memory {
    fn open(&self, options: Options) -> Arc<dyn Store> {
        Arc::new(Mem::new(&options))
    }

    fn reopen(&self, _store: Arc<dyn Store>, _options: Options) -> Option<Arc<dyn Store>> {
        None
    }
}

struct File(tempfile::TempDir);

impl File {
    fn path(&self) -> PathBuf {
        self.0.path().join("state.db")
    }
}

impl Factory for File {
    fn open(&self, options: Options) -> Arc<dyn Store> {
        Arc::new(Sqlite::open(&self.path(), &options).expect("open"))
    }

    fn reopen(&self, store: Arc<dyn Store>, options: Options) -> Option<Arc<dyn Store>> {
        assert_eq!(Arc::strong_count(&store), 1, "the store is given up");
        drop(store);
        Some(self.open(options))
    }
}

macro_rules! test_promise {
    ($promise:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $promise() {
            contract::$promise(&factory()).await;
        }
    };
}

mod mem {
    use super::*;
    fn factory() -> Memory {
        Memory
    }
    for_each_promise!(test_promise);
}

mod sqlite {
    use super::*;
    fn factory() -> File {
        File(tempfile::tempdir().expect("a temporary directory"))
    }
    for_each_promise!(test_promise);
}
