//! The programs of a PostgreSQL server for tests. They are unpacked and not installed: Debian's packages would make a cluster and
//! start it as a service of this machine. Only the libraries that they load are installed.

/// The versions in Debian and Ubuntu; the tests are made for the first one.
const VERSIONS: [u32; 4] = [15, 16, 17, 18];

/// The libraries that the server and psql load, by their names in Debian 12 and 13; those that apt does not know are left out.
const LIBRARIES: [&str; 14] = [
    "libpq5", "libicu72", "libicu76", "libxml2", "libldap-2.5-0", "libldap2", "libgssapi-krb5-2", "libpam0g",
    "libreadline8", "libreadline8t64", "liblz4-1", "libzstd1", "libnuma1", "liburing2",
];

/// The step for a distribution whose packages are not tested.
pub(super) const BY_HAND: &str =
    "install the programs of a PostgreSQL server, or name their folder in MEMMON_POSTGRES";

pub(super) fn packages_of_interest() -> impl Iterator<Item = String> {
    let servers = VERSIONS.into_iter().flat_map(server);
    servers.chain(LIBRARIES.into_iter().map(str::to_owned))
}

/// The libraries to install, and the packages with the programs; none of them if apt has no server.
pub(super) fn packages(available: impl Fn(&str) -> bool) -> Option<(Vec<String>, Vec<String>)> {
    let has = |version: &u32| server(*version).iter().all(|name| available(name));
    let version = VERSIONS.into_iter().find(has)?;
    let libraries = LIBRARIES.into_iter().filter(|name| available(name)).map(str::to_owned);
    Some((libraries.collect(), server(version).to_vec()))
}

fn server(version: u32) -> [String; 2] {
    [format!("postgresql-{version}"), format!("postgresql-client-{version}")]
}
