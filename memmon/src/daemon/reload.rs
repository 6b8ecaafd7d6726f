//! SIGHUP: another configuration in force, all of it or nothing.

use std::{rc::Rc, time::Instant};

use super::{start, told::Told, wheel::Daemon};
use crate::{
    config::{Loaded, Settings},
    report::Event,
};

impl Daemon<'_> {
    /// Puts the configuration file into force as it is now, or says why not and changes nothing.
    ///
    /// Victims under way are held to what condemned them, and spared by whatever spares them now. If nothing is to be
    /// signalled any more they are let go.
    pub(super) fn reload(&mut self) -> bool {
        self.reporter.reopen();
        let loaded = match self.loaded() {
            Ok(loaded) => loaded,
            Err(error) => {
                self.tell(Event::ReloadFailed { error });
                return false;
            }
        };
        if loaded.settings.kernel != self.settings.kernel {
            let what = "[kernel] has changed: that takes effect at the next start (systemctl restart memmon)";
            self.tell(Event::Degraded { what: what.to_owned() });
        }
        let settings = Settings { kernel: self.settings.kernel, ..loaded.settings };
        let before = Rc::new(std::mem::replace(&mut self.settings, settings));
        self.reporter.replace(start::outputs(&self.settings));
        self.told = Told::default();
        self.tell(Event::Reloaded { config: loaded.origin });
        self.hand_over(&before);
        self.levels_anew();
        self.watch.sweep_next();
        for warning in &loaded.warnings {
            self.tell(Event::Degraded { what: warning.to_string() });
        }
        self.admit();
        self.board.borrow_mut().warned(loaded.warnings);
        true
    }

    /// The configuration as it is now, if it can be put into force, or why it cannot.
    fn loaded(&self) -> Result<Loaded, String> {
        let mut loaded = start::load(&self.options).map_err(|error| error.to_string())?;
        // One scan is what it was when it began: it may not have taken the lock that enforcing takes.
        loaded.settings.dry_run |= self.options.once && self.settings.dry_run;
        if !loaded.settings.dry_run {
            self.enforceable.as_ref().map_err(ToString::to_string)?;
        }
        Ok(loaded)
    }

    /// What the settings of `before` began goes on by them, or ends; what they had not begun begins.
    fn hand_over(&mut self, before: &Rc<Settings>) {
        let now = Instant::now();
        let orders = if self.settings.dry_run {
            self.victims.call_off(now)
        } else {
            self.hold_victims_to(before);
            self.victims.rules_changed(start::patience(&self.settings), now)
        };
        self.carry_out(orders);
        if before.dry_run && !self.settings.dry_run {
            self.get_ready();
        }
    }

    /// Has victims under way finish under `before`, which condemned them.
    pub(super) fn hold_victims_to(&mut self, before: &Rc<Settings>) {
        for (victim, _) in self.victims.iter() {
            self.former.entry(victim.id).or_insert_with(|| Rc::clone(before));
        }
    }
}
