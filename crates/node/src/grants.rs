//! What this node has granted its pods of CPU and memory.
//!
//! A pod's object does not tell: it says what is asked for, and its status is written after the fact. So there is one table, in
//! which asking and taking is one act, and a file per pod beside its volumes, written before any limit changes: neither a restart
//! of the agent nor one of the machine forgets a grant, or makes one.

use crate::layout::Layout;
use crate::record;
use crate::resize::{Granted, Verdict, fits};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;

#[derive(Debug)]
pub(crate) struct Grants {
    layout: Layout,
    /// By pod uid; those of pods that are over are gone.
    table: Mutex<HashMap<String, Granted>>,
    /// Held while a file is written: what comes first must not replace what comes later.
    files: Mutex<()>,
}

impl Grants {
    pub(crate) fn new(layout: Layout) -> Self {
        Self {
            layout,
            table: Mutex::default(),
            files: Mutex::default(),
        }
    }

    /// Reads what an earlier agent granted. To be called before anybody asks. Blocking.
    pub(crate) fn recover(&self) {
        let entries = fs::read_dir(self.layout.pods_dir()).into_iter().flatten().flatten();
        let found = entries.filter_map(|entry| {
            let uid = entry.file_name().to_str()?.to_owned();
            let granted = record::read(&self.layout.granted(&uid))?;
            Some((uid, granted))
        });
        let found: Vec<_> = found.collect();
        self.table.lock().extend(found);
    }

    pub(crate) fn get(&self, uid: &str) -> Option<Granted> {
        self.table.lock().get(uid).cloned()
    }

    /// Counts a pod that this node has accepted.
    pub(crate) fn accept(&self, uid: &str, granted: &Granted) {
        let mut table = self.table.lock();
        table.entry(uid.to_owned()).or_insert_with(|| granted.clone());
    }

    pub(crate) fn forget(&self, uid: &str) {
        self.table.lock().remove(uid);
    }

    pub(crate) fn retain(&self, kept: impl Fn(&str) -> bool) {
        self.table.lock().retain(|uid, _| kept(uid));
    }

    /// Writes what a pod was accepted with, unless there is something already: for a pod that is about to begin. Blocking.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn note_accepted(&self, uid: &str, accepted: &Granted) -> io::Result<()> {
        // What asks for nothing cannot be resized: that would change its quality of service.
        if accepted.is_empty() {
            return Ok(());
        }
        let path = self.layout.granted(uid);
        let _turn = self.files.lock();
        if path.exists() {
            return Ok(());
        }
        record::write(&path, accepted)
    }

    /// Gives the pod what it asks for if this node has it, for good: when this answers [`Verdict::Fits`], it is counted and on
    /// disk. Blocking.
    pub(crate) fn ask(&self, uid: &str, asked: Granted, allocatable: &BTreeMap<String, Quantity>) -> Verdict {
        let before = {
            let mut table = self.table.lock();
            let others = table.iter().filter(|(other, _)| *other != uid);
            let used = others.map(|(_, granted)| granted.requests).sum();
            let verdict = fits(asked.requests, used, allocatable);
            if verdict != Verdict::Fits {
                return verdict;
            }
            let before = table.get(uid).cloned();
            // Until it is on disk the pod has both.
            let requests = before
                .as_ref()
                .map_or(asked.requests, |before| before.requests.max(asked.requests));
            let both = Granted {
                requests,
                ..asked.clone()
            };
            table.insert(uid.to_owned(), both);
            before
        };
        let written = self.write(uid, &asked);
        let mut table = self.table.lock();
        match (written, before) {
            (Ok(()), _) => table.insert(uid.to_owned(), asked),
            (Err(error), before) => {
                match before {
                    Some(before) => table.insert(uid.to_owned(), before),
                    None => table.remove(uid),
                };
                return Verdict::Deferred(format!("cannot note what is granted: {error}"));
            }
        };
        Verdict::Fits
    }

    /// Notes that everything a pod was granted is in force. Blocking.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn conclude(&self, uid: &str) -> io::Result<()> {
        let Some(mut granted) = self.get(uid).filter(|granted| granted.in_progress) else {
            return Ok(());
        };
        granted.in_progress = false;
        self.write(uid, &granted)?;
        self.table.lock().insert(uid.to_owned(), granted);
        Ok(())
    }

    fn write(&self, uid: &str, granted: &Granted) -> io::Result<()> {
        let path = self.layout.granted(uid);
        fs::create_dir_all(self.layout.pod_dir(uid))?;
        let _turn = self.files.lock();
        record::write_through(&path, granted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resize::Requests;
    use k8s_openapi::api::core::v1::ResourceRequirements;

    fn granted(cpu: i64) -> Granted {
        Granted {
            requests: Requests { cpu, memory: 0 },
            ..Granted::default()
        }
    }

    fn grants() -> (tempfile::TempDir, Grants) {
        let directory = tempfile::tempdir().expect("a directory");
        let layout = Layout {
            data_dir: directory.path().to_owned(),
            run_dir: directory.path().to_owned(),
            instance: String::new(),
        };
        (directory, Grants::new(layout))
    }

    fn four_cpus() -> BTreeMap<String, Quantity> {
        [("cpu".to_owned(), Quantity("4".to_owned()))].into()
    }

    #[test]
    fn two_pods_are_never_granted_the_same() {
        let (_directory, grants) = grants();
        for uid in ["a", "b"] {
            grants.accept(uid, &granted(1000));
        }
        let ask = |uid: &str, cpu: i64| grants.ask(uid, granted(cpu), &four_cpus());
        let verdicts: Vec<_> = std::thread::scope(|scope| {
            let asking: Vec<_> = ["a", "b"].map(|uid| scope.spawn(move || ask(uid, 3000))).into();
            asking.into_iter().map(|asked| asked.join().expect("answers")).collect()
        });
        let fitting = verdicts.iter().filter(|verdict| **verdict == Verdict::Fits).count();
        assert_eq!(fitting, 1, "{verdicts:?}");
        // Who was refused has what it had.
        let total: i64 = ["a", "b"]
            .map(|uid| grants.get(uid).expect("known").requests.cpu)
            .iter()
            .sum();
        assert_eq!(total, 4000);
        grants.forget("b");
        grants.forget("a");
        assert_eq!(ask("c", 4000), Verdict::Fits);
    }

    #[test]
    fn what_was_granted_outlives_the_agent_and_the_first_note_gives_way() {
        let (_directory, grants) = grants();
        let mut accepted = granted(1000);
        accepted.containers.insert(
            "c".to_owned(),
            ResourceRequirements {
                requests: Some(four_cpus()),
                ..ResourceRequirements::default()
            },
        );
        grants.accept("a", &accepted);
        let mut asked = granted(2000);
        (asked.in_progress, asked.generation) = (true, Some(7));
        assert_eq!(grants.ask("a", asked.clone(), &four_cpus()), Verdict::Fits);
        grants.note_accepted("a", &accepted).expect("written");
        let next = Grants::new(grants.layout.clone());
        next.recover();
        assert_eq!(next.get("a"), Some(asked.clone()));
        // It counts before its pod is seen again.
        assert!(matches!(
            next.ask("b", granted(3000), &four_cpus()),
            Verdict::Deferred(_)
        ));
        next.conclude("a").expect("written");
        let third = Grants::new(grants.layout.clone());
        third.recover();
        asked.in_progress = false;
        assert_eq!(third.get("a"), Some(asked));
    }

    #[test]
    fn what_cannot_be_noted_is_not_granted() {
        let (directory, grants) = grants();
        fs::write(directory.path().join("agent"), "in the way").expect("written");
        grants.accept("a", &granted(1000));
        assert!(matches!(
            grants.ask("a", granted(2000), &four_cpus()),
            Verdict::Deferred(_)
        ));
        assert_eq!(grants.get("a"), Some(granted(1000)));
    }
}
