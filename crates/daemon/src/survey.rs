//! A look through the worker's tree: how big it is, and which of its processes may be ended.

use os::proc::Stat;
use os::process::Identity;
use policy::supervisor::{Candidate, Survey};

/// What the kernel holds for the smallest process, and no PSS tells: its stack, its page tables and descriptions (measured: 105 kB each
/// of 304 processes, charged to their control group). A fork bomb is made of it.
const KERNEL_BYTES: u64 = 100 << 10;

/// One process of the tree.
#[derive(Debug)]
struct Member {
    identity: Identity,
    stat: Stat,
    other_names: Vec<String>,
    bytes: u64,
}

/// What was found, with the identities that a later signal needs.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) survey: Survey,
    members: Vec<Member>,
}

/// Look below `shim`; the worker itself is never a candidate.
pub(crate) fn look(shim: u32, worker: Option<u32>, names: &[String]) -> Found {
    let root = os::proc::root();
    let tree = os::proc::descendants(root, shim).unwrap_or_default();
    let members = tree.into_iter().map(|(identity, stat)| {
        let bytes = os::proc::pss_bytes(root, identity.pid).unwrap_or(0).saturating_add(KERNEL_BYTES);
        // A process chooses its short name itself.
        let other_names =
            if names.contains(&stat.name) { Vec::new() } else { os::proc::other_names(root, identity.pid) };
        Member { identity, stat, other_names, bytes }
    });
    let members: Vec<Member> = members.collect();
    let survey = survey(&members, worker, names);
    Found { survey, members }
}

fn survey(members: &[Member], worker: Option<u32>, names: &[String]) -> Survey {
    let is_named =
        |member: &Member| names.contains(&member.stat.name) || member.other_names.iter().any(|n| names.contains(n));
    let is_candidate = |member: &&Member| Some(member.identity.pid) != worker && is_named(member);
    let candidates: Vec<&Member> = members.iter().filter(is_candidate).collect();
    let nearest = |pid: u32| {
        ancestors(members, pid).find(|above| candidates.iter().any(|candidate| candidate.identity.pid == *above))
    };
    let parents: Vec<Option<u32>> = members.iter().map(|member| nearest(member.identity.pid)).collect();
    let sum = |belongs: &dyn Fn(&Member, Option<u32>) -> bool| -> u64 {
        members.iter().zip(&parents).filter(|(member, parent)| belongs(member, **parent)).map(|(m, _)| m.bytes).sum()
    };
    let weighed = candidates.iter().map(|candidate| {
        let pid = candidate.identity.pid;
        let below_another = |member: &Member| {
            member.identity.pid != pid && candidates.iter().any(|c| c.identity.pid == member.identity.pid)
        };
        Candidate {
            pid,
            parent: nearest(pid),
            own_bytes: sum(&|member, parent| {
                member.identity.pid == pid || (parent == Some(pid) && !below_another(member))
            }),
            bytes: sum(&|member, _| {
                member.identity.pid == pid || ancestors(members, member.identity.pid).any(|above| above == pid)
            }),
        }
    });
    Survey { candidates: weighed.collect(), tree_bytes: members.iter().map(|member| member.bytes).sum() }
}

/// From the parent upwards, within the tree.
fn ancestors(members: &[Member], pid: u32) -> impl Iterator<Item = u32> + '_ {
    let parent = move |pid: u32| members.iter().find(|m| m.identity.pid == pid).map(|m| m.stat.parent);
    // A bound, because the parents were read one after the other and need not fit together.
    std::iter::successors(parent(pid), move |&above| parent(above)).take(members.len())
}

impl Found {
    /// What one process of the tree holds, without those below it.
    pub(crate) fn bytes_of(&self, pid: u32) -> Option<u64> {
        self.members.iter().find(|member| member.identity.pid == pid).map(|member| member.bytes)
    }

    /// A candidate and all that is below it.
    pub(crate) fn subtree(&self, pid: u32) -> Vec<Identity> {
        let is_in = |member: &&Member| {
            let other = member.identity.pid;
            other == pid || ancestors(&self.members, other).any(|above| above == pid)
        };
        self.members.iter().filter(is_in).map(|member| member.identity).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(pid: u32, parent: u32, name: &str, bytes: u64) -> Member {
        let stat = Stat {
            name: name.to_owned(),
            state: 'S',
            parent,
            group: pid,
            session: pid,
            cpu_ticks: 0,
            reaped_cpu_ticks: 0,
            start_ticks: 1,
        };
        Member { identity: Identity { pid, start_ticks: 1 }, stat, other_names: Vec::new(), bytes }
    }

    #[test]
    fn a_candidate_that_renamed_itself_is_one_all_the_same() {
        let mut members =
            vec![member(2, 1, "MainThread", 5), member(3, 1, "next-server (v1", 9), member(4, 1, "make", 3)];
        members[0].other_names = vec!["node".to_owned()];
        members[1].other_names = vec!["node".to_owned(), "next-server (v15)".to_owned()];
        members[2].other_names = vec!["make".to_owned()];
        let pids = |worker| {
            let found = survey(&members, worker, &["node".to_owned()]);
            found.candidates.iter().map(|candidate| candidate.pid).collect::<Vec<_>>()
        };
        assert_eq!(pids(None), [2, 3]);
        assert_eq!(pids(Some(2)), [3], "never the worker itself");
    }

    #[test]
    fn a_candidate_weighs_what_goes_with_it() {
        let members = vec![
            member(2, 1, "autopilot", 5),
            member(3, 2, "claude", 200),
            member(4, 3, "bash", 1),
            member(5, 4, "node", 3_000),
            member(6, 5, "esbuild", 40),
            member(7, 1, "node", 7),
        ];
        let names = ["claude".to_owned(), "node".to_owned(), "autopilot".to_owned()];
        let found = survey(&members, Some(2), &names);
        assert_eq!(found.tree_bytes, 3_253);
        assert_eq!(
            found.candidates,
            [
                Candidate { pid: 3, parent: None, own_bytes: 201, bytes: 3_241 },
                Candidate { pid: 5, parent: Some(3), own_bytes: 3_040, bytes: 3_040 },
                Candidate { pid: 7, parent: None, own_bytes: 7, bytes: 7 },
            ]
        );
        let pids = |found: &Found, pid| found.subtree(pid).iter().map(|i| i.pid).collect::<Vec<_>>();
        let found = Found { survey: found, members };
        assert_eq!(pids(&found, 3), [3, 4, 5, 6]);
        assert_eq!(pids(&found, 7), [7]);
    }
}
