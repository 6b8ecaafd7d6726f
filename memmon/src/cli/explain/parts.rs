//! The parts of a process's memory, as `memmon explain` shows them.

use crate::{
    inspect::Details,
    model::{Bytes, Measure, Parts},
    status::{FromElder, Kept, Sharing},
};

/// Each part by its name, and the figure that is compared with the limit.
pub(super) fn lines(details: &Details, measure: Measure) -> Vec<(&'static str, String)> {
    let Details { parts: Parts { anon, file, shmem, swap }, returned, sharing, charged, hugetlb } = details;
    let Sharing { inherited, kept } = sharing;
    let mut lines = vec![("anon", anon.to_string()), ("file", format!("{file}, which stays as page cache"))];
    lines.push(("shmem", shared(*shmem, *returned, kept.as_ref())));
    lines.push(("swap", swap.to_string()));
    if let Some(FromElder { bytes, elder }) = inherited {
        lines.push((
            "inherited",
            format!("{bytes} at its fork, which it still shares with {elder}: that one is charged for it"),
        ));
    }
    if *hugetlb > Bytes::ZERO {
        lines.push(("hugetlb", format!("{hugetlb} of huge pages, which no other figure here includes")));
    }
    let least = if returned.is_none() { "at least " } else { "" };
    let decides = match measure {
        Measure::Charged => "this decides if its resident memory exceeds the limit",
        Measure::Rss => "this does not count, as thresholds.measure is \"rss\"",
    };
    lines.push(("charged", format!("{least}{charged}, which its end would give back; {decides}")));
    lines
}

fn shared(shmem: Bytes, returned: Option<Bytes>, kept: Option<&Kept>) -> String {
    let all = shmem.to_string();
    match (returned, kept) {
        _ if shmem == Bytes::ZERO => all,
        (None, _) => format!("{all}; memmon could not read how much of it its end would free"),
        (Some(returned), None) => format!("{all}, of which its end would free {returned}"),
        (Some(returned), Some(Kept { bytes, object, object_bytes, holder })) => {
            let why = match holder {
                Some(holder) => format!("{holder} holds it as well"),
                None => "it outlives all processes".to_owned(),
            };
            format!(
                "{all}, of which its end would free {returned}; {bytes} stay, the largest part ({object_bytes}) in \
                 \"{object}\": {why}"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::Pid, status::Other};

    fn details() -> Details {
        let mib = |count: u64| Bytes(count << 20);
        Details {
            parts: Parts { anon: mib(236), file: mib(4), shmem: mib(250), swap: Bytes::ZERO },
            returned: Some(mib(3)),
            sharing: Sharing::default(),
            charged: mib(239),
            hugetlb: Bytes::ZERO,
        }
    }

    fn shown(details: &Details, measure: Measure) -> String {
        lines(details, measure).iter().map(|(name, text)| format!("{name}: {text}\n")).collect()
    }

    #[test]
    fn each_part_has_its_line_and_the_last_one_decides() {
        insta::assert_snapshot!(shown(&details(), Measure::Charged), @"
        anon: 0.23GB
        file: 4.0MB, which stays as page cache
        shmem: 0.24GB, of which its end would free 3.0MB
        swap: 0B
        charged: 0.23GB, which its end would give back; this decides if its resident memory exceeds the limit
        ");
        let plain = Details { parts: Parts::default(), ..details() };
        assert!(shown(&plain, Measure::Rss).contains("shmem: 0B\n"));
        assert!(shown(&plain, Measure::Rss).ends_with("as thresholds.measure is \"rss\"\n"));
    }

    #[test]
    fn shared_memory_names_the_other_process() {
        let other = |pid, comm: &str| Other { pid: Pid(pid), comm: Some(comm.into()) };
        let sharing = Sharing {
            inherited: Some(FromElder { bytes: Bytes(200 << 20), elder: other(77, "python3") }),
            kept: Some(Kept {
                bytes: Bytes(247 << 20),
                object: "/dev/zero".into(),
                object_bytes: Bytes(240 << 20),
                holder: Some(other(812, "postgres")),
            }),
        };
        let all = Details { sharing, hugetlb: Bytes(2 << 20), ..details() };
        let text = shown(&all, Measure::Charged);
        for line in [
            "shmem: 0.24GB, of which its end would free 3.0MB; 0.24GB stay, the largest part (0.23GB) in \"/dev/zero\": \
             pid 812 (postgres) holds it as well\n",
            "inherited: 0.20GB at its fork, which it still shares with pid 77 (python3): that one is charged for it\n",
            "hugetlb: 2.0MB of huge pages, which no other figure here includes\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
        let unread = Details { returned: None, ..all };
        let text = shown(&unread, Measure::Charged);
        assert!(text.contains("shmem: 0.24GB; memmon could not read"), "{text}");
        assert!(text.contains("charged: at least 0.23GB, "), "{text}");
    }
}
