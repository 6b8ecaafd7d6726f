//! The registry of figures: what each is called, and what it means.

use prometheus_client::registry::{Metric, Registry, Unit};

use crate::model::Bytes;

/// All figures by name.
pub(super) struct Catalog(pub(super) Registry);

impl Catalog {
    pub(super) fn add<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        let metric = M::default();
        self.0.register(name, help, metric.clone());
        metric
    }

    pub(super) fn seconds<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.0.register_with_unit(name, help, Unit::Seconds, metric.clone());
        metric
    }

    pub(super) fn bytes<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.0.register_with_unit(name, help, Unit::Bytes, metric.clone());
        metric
    }
}

/// An amount as a gauge has it.
pub(super) fn gauge(bytes: Bytes) -> i64 {
    i64::try_from(bytes.0).unwrap_or(i64::MAX)
}
