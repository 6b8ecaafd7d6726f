//! `[metrics]`: the places at which Prometheus can read figures.

use std::path::PathBuf;

use serde::Serialize;
use toml::Spanned;

use super::{raw, values::Reader};
use crate::model::Listen;

/// `[metrics]`: nothing by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Metrics {
    /// A file for node_exporter's textfile collector.
    pub textfile: Option<PathBuf>,
    /// OpenMetrics over HTTP.
    pub listen: Option<Listen>,
}

impl Reader<'_, '_> {
    pub(super) fn metrics(&mut self, typed: raw::Metrics) -> Metrics {
        let raw::Metrics { textfile, listen } = typed;
        Metrics {
            textfile: textfile.and_then(|typed| self.textfile(&typed)),
            listen: listen.and_then(|typed| self.listen(&typed)),
        }
    }

    fn textfile(&mut self, typed: &Spanned<String>) -> Option<PathBuf> {
        let path = typed.get_ref();
        if path.is_empty() {
            return None;
        }
        if path.starts_with('/') && path.ends_with(".prom") && !path.contains('\0') {
            return Some(path.into());
        }
        let help = "expected a path from the root that ends in .prom, which is all that node_exporter reads";
        self.refuse("textfile", &typed.span(), help.to_owned());
        None
    }

    fn listen(&mut self, typed: &Spanned<String>) -> Option<Listen> {
        if typed.get_ref().is_empty() {
            return None;
        }
        let listen = Listen::parse(typed.get_ref());
        if listen.is_none() {
            let help = "expected an address of this machine only, \"127.0.0.1:9819\", or a socket's path from the root";
            self.refuse("listen", &typed.span(), help.to_owned());
        }
        listen
    }
}
