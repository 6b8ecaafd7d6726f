//! Reasons why the running kernel's type information cannot be used.

/// Reason why the running kernel's type information yields no layout.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// The magic number is missing.
    #[error("this is not BTF")]
    NotBtf,
    /// The file has the other byte order.
    #[error("this BTF is of another byte order")]
    ForeignByteOrder,
    /// The file contradicts itself or ends early.
    #[error("this BTF is malformed: {0}")]
    Malformed(&'static str),
    /// The file has a type of an unknown kind; nothing after it can be located.
    #[error("this BTF has types of kind {0}, which this memmon does not know: it is older than the kernel")]
    UnknownKind(u32),
    /// A struct is missing.
    #[error("no struct {0} in the kernel's BTF")]
    NoStruct(&'static str),
    /// A field is missing.
    #[error("no `{field}` in {structure}{}", why_missing(.structure, .field))]
    NoField {
        /// The struct that should have the field.
        structure: &'static str,
        /// Its name, with dots into inner structs.
        field: &'static str,
    },
    /// A field exists, but does not have the type that the BPF programs read.
    #[error("`{field}` in {structure} is not {expected}: the kernel is one that this memmon does not know")]
    UnexpectedType {
        /// The struct that has the field.
        structure: &'static str,
        /// Its name, with dots into inner structs.
        field: &'static str,
        /// The expected type.
        expected: &'static str,
    },
    /// Several structs of one name place the field differently.
    #[error("`{field}` is at several places: the kernel's BTF has more than one {structure}")]
    Ambiguous {
        /// The struct that exists more than once.
        structure: &'static str,
        /// The field on which they differ.
        field: &'static str,
    },
    /// The counters of `rss_stat` are numbered in another order.
    #[error(
        "{counter} is {found} where {expected} was expected: the kernel is one that this memmon does not know"
    )]
    CounterOrder {
        /// An enumerator such as `MM_ANONPAGES`.
        counter: &'static str,
        /// The number that the BPF programs expect.
        expected: i32,
        /// The number in the running kernel.
        found: i32,
    },
}

fn why_missing(structure: &str, field: &str) -> &'static str {
    match (structure, field) {
        ("mm_struct", "owner") => ": the kernel was built without CONFIG_MEMCG",
        ("task_struct", "start_boottime") => ": the kernel is older than 5.5",
        _ => ": the kernel is one that this memmon does not know",
    }
}
