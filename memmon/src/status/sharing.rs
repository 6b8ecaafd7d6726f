//! The memory of a process that its end would not give back, and the processes that hold it as well.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::text::Text;
use crate::model::{Bytes, Inherited, KeptObject, KeptWhy, Name, Pid, SharedMemory};

/// Another process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Other {
    /// Its pid.
    pub pid: Pid,
    /// Its name, if it was still there.
    pub comm: Option<Text>,
}

/// Memory that a process shares, as far as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sharing {
    /// Memory that it inherited when it was forked, and still shares.
    #[serde(default)]
    pub inherited: Option<FromElder>,
    /// Shared memory that outlives it.
    #[serde(default)]
    pub kept: Option<Kept>,
}

/// Inherited memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FromElder {
    /// The amount.
    pub bytes: Bytes,
    /// The older process, which is charged for it.
    pub elder: Other,
}

/// Shared memory that outlives a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// All of it.
    pub bytes: Bytes,
    /// The largest object.
    pub object: Text,
    /// The part of it that is resident in the process.
    pub object_bytes: Bytes,
    /// An older process that holds the object as well. `None` if the object has a name, or is a System V segment that
    /// stays.
    pub holder: Option<Other>,
}

impl Sharing {
    /// Inherited and shared memory, as far as they were read; `comm` looks up the names of the other processes.
    pub fn new(
        inherited: Option<&Inherited>,
        shared: Option<&SharedMemory>,
        comm: impl Fn(Pid) -> Option<Name>,
    ) -> Self {
        let other = |pid| Other { pid, comm: comm(pid).as_ref().map(Text::from) };
        let inherited = inherited.filter(|inherited| inherited.bytes > Bytes::ZERO);
        let inherited =
            inherited.map(|inherited| FromElder { bytes: inherited.bytes, elder: other(inherited.elder) });
        let kept = shared.and_then(|shared| {
            let KeptObject { name, bytes, why } = shared.largest.as_ref()?;
            let holder = match why {
                KeptWhy::Elder { pid } => Some(other(*pid)),
                KeptWhy::Named | KeptWhy::SystemV => None,
            };
            Some(Kept { bytes: shared.kept, object: Text::from(name), object_bytes: *bytes, holder })
        });
        Self { inherited, kept }
    }
}

/// `pid 812 (postgres)`
impl fmt::Display for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {}", self.pid)?;
        match &self.comm {
            Some(comm) => write!(f, " ({comm})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_others_have_names() {
        let comm = |pid: Pid| (pid == Pid(812)).then(|| Name::from("postgres"));
        assert_eq!(Sharing::new(None, None, comm), Sharing::default());
        let inherited = Inherited { bytes: Bytes(7), elder: Pid(77) };
        let shared = |why| {
            let object = KeptObject { name: "/dev/zero".into(), bytes: Bytes(200), why };
            SharedMemory { returned: Bytes(1), kept: Bytes(284), largest: Some(object) }
        };
        let sharing = Sharing::new(Some(&inherited), Some(&shared(KeptWhy::Elder { pid: Pid(812) })), comm);
        assert_eq!(sharing.inherited.unwrap().elder.to_string(), "pid 77");
        let kept = sharing.kept.unwrap();
        assert_eq!(
            (kept.bytes, kept.object_bytes, kept.object.as_str()),
            (Bytes(284), Bytes(200), "/dev/zero")
        );
        assert_eq!(kept.holder.unwrap().to_string(), "pid 812 (postgres)");
        assert_eq!(Sharing::new(None, Some(&shared(KeptWhy::SystemV)), comm).kept.unwrap().holder, None);
    }
}
