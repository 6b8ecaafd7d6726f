//! Carries out `memmon exempt`: numbers exemptions, has the engine begin and end them, and has them stored so that a restart
//! keeps them.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;

use crate::daemon::announcer::Announcer;
use crate::daemon::clock::Now;
use crate::daemon::conditions::Degradation;
use crate::daemon::engine::Engine;
use crate::daemon::engine::state::reports::Observer as _;
use crate::daemon::exemption_ends::{Clocks, Ends};
use crate::daemon::exemption_file::Stored;
use crate::daemon::state_file::Writer;
use crate::model::{Exempt, Exemption, ExemptionEnd, Phrase, Uid, UnixTime};
use crate::report::Event;
use crate::status::{Body, Done, Order, Refusal, Target, Text, answer as reply};

/// The longest time of an exemption: whoever needs more than a week changes the configuration.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Maximum number at once: every process over a limit is compared with each.
const MOST: usize = 64;

/// The exemptions' numbers and their file. The engine has the exemptions themselves.
pub(super) struct Exemptions {
    /// The number of the next one.
    next: u32,
    ends: Ends,
    /// `None` if this memmon stores nothing.
    writer: Option<Writer<Stored>>,
}

impl Exemptions {
    /// No exemptions yet, and no file.
    pub(super) fn none() -> Self {
        Self { next: 1, ends: Ends::default(), writer: None }
    }

    /// Continues the exemptions that are `stored`, of which none has ended; they change in the file of `writer`.
    pub(super) fn new(
        stored: Stored,
        writer: Option<Writer<Stored>>,
        engine: &mut Engine<'_>,
        now: Now,
    ) -> Self {
        let Stored { next, exemptions: mut left, ends } = stored;
        let now = clocks(now);
        let mut ends = Ends::of(&left, &ends, now);
        left.retain(|exemption| !ends.is_over(exemption, now));
        ends.keep(&left);
        engine.continue_exemptions(left);
        engine.move_ends(|one| ends.moved(one, now));
        Self { next, ends, writer }
    }

    /// The time until the next one ends.
    pub(super) fn next_end(&self, now: Now) -> Option<Duration> {
        self.ends.next(now.since_boot())
    }

    /// Ends the exemptions whose time is over, and those whose process is gone. Has all stored again if that has failed.
    pub(super) fn review(&mut self, engine: &mut Engine<'_>, announcer: &Announcer<'_>, now: Now) {
        let clocks = clocks(now);
        let expired = engine.end_expired(|one| self.ends.is_over(one, clocks), now);
        let moved = engine.move_ends(|one| self.ends.moved(one, clocks));
        let are_others = engine.end_orphaned(now) || expired || moved;
        self.ends.keep(engine.exemptions());
        if self.report_failure(announcer) || are_others {
            self.store(engine, |_| {});
        }
    }

    /// Reports it if the exemptions are not stored. Returns whether that is so.
    fn report_failure(&self, announcer: &Announcer<'_>) -> bool {
        let failure = self.writer.as_ref().and_then(Writer::failure);
        match &failure {
            Some(error) => announcer.degraded(Degradation::NoExemptionFile, || {
                format!("exemptions would not survive a restart of memmon: {error}")
            }),
            None => announcer.works(Degradation::NoExemptionFile),
        }
        failure.is_some()
    }

    /// Carries out an order of the user `by`, who may give it.
    pub(super) fn carry_out(
        &mut self,
        engine: &mut Engine<'_>,
        (order, by): (Order, Uid),
        now: Now,
        answer: oneshot::Sender<String>,
    ) {
        let (exemption, body): (_, fn(Done) -> Body) = match order {
            Order::Exempt { of, seconds, why } => match self.exempt(engine, of, seconds, (why, by), now) {
                Ok(exemption) => {
                    engine.exempt(exemption.clone(), now);
                    (exemption, Body::Exempted)
                }
                Err(message) => return refuse(answer, "refused", &message),
            },
            Order::EndExemption { id } => {
                let ends = |one: &Exemption| (one.id == id).then_some(ExemptionEnd::EndedBy(by));
                let ended = engine.end_exemptions(ends, now).pop();
                self.ends.keep(engine.exemptions());
                match ended {
                    Some(exemption) => (exemption, Body::ExemptionEnded),
                    None => return refuse(answer, "refused", &format!("there is no exemption {id}")),
                }
            }
        };
        self.store(engine, move |not_stored| {
            let not_stored = not_stored.map(|error| Text::harmless(&error));
            // The client may have left.
            let _ = answer.send(reply(&body(Done { exemption, not_stored })));
        });
    }

    /// The requested exemption, or the reason why it is refused.
    fn exempt(
        &mut self,
        engine: &Engine<'_>,
        of: Target,
        seconds: u64,
        (why, by): (Phrase, Uid),
        now: Now,
    ) -> Result<Exemption, String> {
        if seconds == 0 || seconds > LONGEST.as_secs() {
            return Err("an exemption lasts from one second to 7 days".to_owned());
        }
        if engine.exemptions().len() >= MOST {
            return Err(format!("there are {MOST} exemptions already: end one of them first"));
        }
        let of = match of {
            Target::Pid(pid) => Exempt::Process(
                engine.identify(pid).map_err(|error| format!("pid {pid} cannot be exempt: {error}"))?,
            ),
            Target::User(uid) => Exempt::User(uid),
            Target::Unit(unit) => {
                if let Some(why) = no_unit(unit.as_str()) {
                    return Err(format!("{unit} is no unit: {why}"));
                }
                Exempt::Unit(unit)
            }
            Target::Job(job) => Exempt::Job(job),
        };
        let id = self.next;
        self.next = id.checked_add(1).ok_or("there are no more numbers")?;
        let until = self.ends.begin(id, Duration::from_secs(seconds), clocks(now));
        Ok(Exemption { id, of, until, by, why })
    }

    /// Has the current exemptions stored, and `then` called with the reason if that failed.
    fn store(&self, engine: &Engine<'_>, then: impl FnOnce(Option<String>) + Send + 'static) {
        let Some(writer) = &self.writer else {
            return then(Some("this memmon stores nothing".to_owned()));
        };
        let stored =
            Stored { next: self.next, exemptions: engine.exemptions().to_vec(), ends: self.ends.all() };
        writer.write(stored, Box::new(then));
    }
}

/// The reason why no process can ever be in `unit`; `None` if one can.
fn no_unit(unit: &str) -> Option<&'static str> {
    let parts: Vec<&str> = unit.split('/').collect();
    let is_one = |part: &str| [".service", ".scope"].iter().any(|end| part.ends_with(end));
    match &parts[..] {
        // systemd allows none of these characters in a name.
        _ if unit.contains(['*', '?', '[', ']']) => {
            Some("an exemption is for one unit, and takes no pattern: exempt each of them")
        }
        [one] if is_one(one) => None,
        [manager, one] if manager.starts_with("user@") && is_one(manager) && is_one(one) => None,
        [.., last] if parts.len() > 1 && is_one(last) => Some(
            "expected its name without the path of its cgroup, or user@1000.service/app-x.scope of a user's manager",
        ),
        _ => Some("expected the name of a .service or .scope"),
    }
}

fn refuse(answer: oneshot::Sender<String>, code: &str, message: &str) {
    let _ = answer.send(reply(&Body::Error(Refusal::new(code, message))));
}

/// The clocks by which exemptions end.
fn clocks(now: Now) -> Clocks {
    let wall: UnixTime = Timestamp::now().into();
    Clocks { wall, since_boot: now.since_boot() }
}

/// Reports a file of exemptions that cannot be used.
pub(super) fn report_unreadable(announcer: &Announcer<'_>, error: &str) {
    let what = format!("the exemptions of before the start are not in force: {error}");
    announcer.event(Event::Degraded { what });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_in_which_no_process_can_be_is_refused() {
        for unit in
            ["x.service", r"app-x\x2d1.scope", "user@7.service", "user@7.service/app-x.scope", "a b.service"]
        {
            assert_eq!(no_unit(unit), None, "{unit}");
        }
        for (unit, why) in [
            ("postgresql@*.service", "takes no pattern"),
            ("app-[12].scope", "takes no pattern"),
            ("/system.slice/x.service", "without the path"),
            ("system.slice/x.service", "without the path"),
            ("user@7.service/app.slice/app-x.scope", "without the path"),
            ("x.service/y.service", "without the path"),
            ("user.slice", "expected the name"),
            ("user@7.service/app.slice", "expected the name"),
            ("x", "expected the name"),
        ] {
            assert!(no_unit(unit).is_some_and(|text| text.contains(why)), "{unit}: {:?}", no_unit(unit));
        }
    }
}
