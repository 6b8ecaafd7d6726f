//! The script that an interpreter runs, from its command line: without it, all that runs under `python3` looks alike.
//!
//! The command line is the process's own choice, as its names are. Nothing is spared or terminated for what stands in
//! it: it distinguishes two programs of one interpreter.

use super::parse;

/// More of a script's name (or of code on the command line) is not kept.
const LONGEST: usize = 256;

struct Interpreter {
    /// Its file, after which a version may follow: `python3.11`, `php8.2`.
    names: &'static [&'static str],
    /// Options whose value is the script or module to run. One that ends in `=` has the value in the same argument.
    runs: &'static [&'static str],
    /// Options whose value, in the next argument, is not the script or module to run.
    skips: &'static [&'static str],
    /// Words before the script: `deno run x.ts`.
    verbs: &'static [&'static str],
    /// Whether options of one letter can stand together, and with their value: `-uc CODE`, `-mMODULE`.
    clusters: bool,
}

const INTERPRETERS: [Interpreter; 13] = [
    Interpreter {
        names: &["python", "pypy"],
        runs: &["-c", "-m"],
        skips: &["-W", "-X", "--check-hash-based-pycs"],
        verbs: &[],
        clusters: true,
    },
    Interpreter { names: &["perl"], runs: &["-e", "-E"], skips: &["-I"], verbs: &[], clusters: false },
    Interpreter {
        names: &["ruby", "jruby", "truffleruby"],
        runs: &["-e"],
        skips: &["-I", "-r", "-C", "-E"],
        verbs: &[],
        clusters: false,
    },
    Interpreter {
        names: &["node", "nodejs"],
        runs: &["-e", "--eval", "-p", "--print", "-pe"],
        skips: &["-r", "--require", "--import", "--loader", "-C", "--conditions"],
        verbs: &[],
        clusters: false,
    },
    Interpreter {
        names: &["deno", "bun"],
        runs: &["-e", "--eval"],
        skips: &["-c", "--config"],
        verbs: &["run"],
        clusters: false,
    },
    Interpreter {
        names: &["php", "php-cgi"],
        runs: &["-f", "-r"],
        skips: &["-c", "-d", "-z"],
        verbs: &[],
        clusters: false,
    },
    Interpreter {
        names: &["java"],
        runs: &["-jar", "-m", "--module"],
        skips: &["-cp", "-classpath", "--class-path", "-p", "--module-path", "--add-modules", "--add-opens"],
        verbs: &[],
        clusters: false,
    },
    Interpreter {
        names: &["R", "Rscript"],
        runs: &["--file=", "-f", "-e"],
        skips: &["-g"],
        verbs: &[],
        clusters: false,
    },
    Interpreter {
        names: &["julia"],
        runs: &["-e", "-E"],
        skips: &["-L", "-J", "-t", "-p", "-C"],
        verbs: &[],
        clusters: false,
    },
    Interpreter {
        names: &["lua", "luajit", "tclsh", "guile"],
        runs: &["-e"],
        skips: &["-l"],
        verbs: &[],
        clusters: false,
    },
    Interpreter {
        names: &["dotnet", "mono"],
        runs: &[],
        skips: &["--depsfile", "--runtimeconfig"],
        verbs: &["exec"],
        clusters: false,
    },
    Interpreter {
        names: &["gawk", "mawk", "awk"],
        runs: &["-f"],
        skips: &["-v", "-F"],
        verbs: &[],
        clusters: false,
    },
    Interpreter {
        names: &["sh", "bash", "dash", "zsh", "ksh", "mksh", "ash", "fish"],
        runs: &["-c"],
        skips: &["-o", "-O", "+o", "+O", "--rcfile", "--init-file"],
        verbs: &[],
        clusters: true,
    },
];

/// The script or module that runs in the interpreter `exe`, whose command line is `cmdline` (strings that end with NUL);
/// `None` for a program that is no interpreter, or that runs nothing by name.
pub(super) fn script<'a>(exe: Option<&[u8]>, cmdline: &'a [u8]) -> Option<&'a [u8]> {
    let called = basename(parse::argv0(cmdline)?);
    // One file for many programs, which go by what they are called.
    let program = exe.map(basename).filter(|exe| *exe != b"busybox").unwrap_or(called);
    let interpreter = INTERPRETERS.iter().find(|one| one.is(program))?;
    let mut words = cmdline.split(|byte| *byte == 0).skip(1);
    let script = interpreter.script(&mut words)?;
    Some(script.get(..LONGEST).unwrap_or(script)).filter(|script| !script.is_empty())
}

impl Interpreter {
    fn is(&self, program: &[u8]) -> bool {
        self.names.iter().any(|name| {
            let version = program.strip_prefix(name.as_bytes());
            version.is_some_and(|version| {
                version.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-'))
            })
        })
    }

    fn script<'a>(&self, words: &mut impl Iterator<Item = &'a [u8]>) -> Option<&'a [u8]> {
        let mut verbs = self.verbs;
        while let Some(word) = words.next() {
            let is = |option: &&str| option.as_bytes() == word;
            let joined =
                |option: &&str| word.strip_prefix(option.as_bytes()).filter(|_| option.ends_with('='));
            if word == b"--" || self.runs.iter().any(is) {
                return words.next();
            } else if let Some(script) = self.runs.iter().find_map(joined) {
                return Some(script);
            } else if self.skips.iter().any(is) {
                words.next();
            } else if verbs.iter().any(is) {
                verbs = &[];
            } else if !matches!(word, [b'-' | b'+', _, ..]) {
                return Some(word);
            } else if self.clusters
                && let Some((runs, value)) = self.valued(word)
            {
                let value = value.or_else(|| words.next());
                if runs {
                    return value;
                }
            }
        }
        None
    }

    /// The option of a cluster that takes a value, and the value if it stands in the same argument. Whether it runs.
    fn valued<'a>(&self, cluster: &'a [u8]) -> Option<(bool, Option<&'a [u8]>)> {
        let letters = cluster.strip_prefix(b"-").filter(|rest| !rest.starts_with(b"-"))?;
        let of =
            |options: &[&str], letter: u8| options.iter().any(|option| option.as_bytes() == [b'-', letter]);
        letters.iter().enumerate().find_map(|(index, letter)| {
            let runs = of(self.runs, *letter);
            let value = letters.get(index + 1..).filter(|rest| !rest.is_empty());
            (runs || of(self.skips, *letter)).then_some((runs, value))
        })
    }
}

fn basename(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(exe: &str, words: &str) -> Option<String> {
        let cmdline =
            words.split(' ').flat_map(|word| [word.as_bytes(), b"\0"].concat()).collect::<Vec<u8>>();
        script(Some(exe.as_bytes()), &cmdline).map(|script| String::from_utf8(script.to_vec()).unwrap())
    }

    #[test]
    fn scripts() {
        for (exe, words, expected) in [
            ("/usr/bin/python3.11", "python3 job0.py --n 5", Some("job0.py")),
            ("/usr/bin/python3.11", "python3 -u -X dev -W error /srv/app.py", Some("/srv/app.py")),
            ("/usr/bin/python3.11", "python3 -m http.server 80", Some("http.server")),
            ("/usr/bin/python3.11", "python3 -um thesis x", Some("thesis")),
            ("/usr/bin/python3.11", "python3 -c pass", Some("pass")),
            ("/usr/bin/python3.11", "python3 -Xdev x.py", Some("x.py")),
            ("/usr/bin/python3.11", "python3", None),
            ("/usr/bin/python3.11", "python3 -u", None),
            ("/usr/bin/python3.11", "python3 -- -x.py", Some("-x.py")),
            ("/usr/bin/python3.11", "python3 -", Some("-")),
            ("/usr/bin/dash", "sh -ec work", Some("work")),
            ("/usr/bin/bash", "/bin/bash -o pipefail ./run.sh a", Some("./run.sh")),
            ("/usr/bin/bash", "-bash", None),
            ("/bin/busybox", "ash /etc/loop.sh", Some("/etc/loop.sh")),
            ("/bin/busybox", "httpd -f", None),
            ("/usr/bin/perl", "perl -w -I lib job.pl", Some("job.pl")),
            ("/usr/bin/node", "node --max-old-space-size=4096 -r dotenv server.js", Some("server.js")),
            ("/usr/bin/deno", "deno run --allow-net x.ts", Some("x.ts")),
            ("/usr/bin/php8.2", "php -d memory_limit=1G -f job.php", Some("job.php")),
            ("/usr/lib/jvm/21/bin/java", "java -Xmx1g -cp a:b -jar app.jar x", Some("app.jar")),
            ("/usr/lib/jvm/21/bin/java", "java -cp a:b org.example.Main", Some("org.example.Main")),
            ("/usr/lib/R/bin/exec/R", "R --no-echo --no-restore --file=fit.R --args 1", Some("fit.R")),
            ("/usr/bin/nginx", "nginx: worker process", None),
            ("/usr/bin/pythonic", "pythonic x.py", None),
        ] {
            assert_eq!(of(exe, words).as_deref(), expected, "{words}");
        }
        // A title that the process wrote itself is one string, and changes.
        assert_eq!(script(Some(b"/usr/bin/ruby3.1"), b"sidekiq 7 app [5 of 10 busy]\0"), None);
        assert_eq!(script(None, b"/usr/bin/python3\0x.py\0"), Some(&b"x.py"[..]), "by argv[0] alone");
        assert_eq!(script(Some(b"/usr/bin/python3"), b""), None);
    }

    proptest! {
        #[test]
        fn whatever_the_command_line_is_the_script_is_a_short_part_of_it(
            index in 0..INTERPRETERS.len(),
            words in prop::collection::vec("-{0,2}[ceomIXWf=a-z/]{0,6}|.{0,300}", 0..8),
        ) {
            let cmdline = format!("x\0{}\0", words.join("\0"));
            if let Some(script) = script(Some(INTERPRETERS[index].names[0].as_bytes()), cmdline.as_bytes()) {
                prop_assert!(!script.is_empty() && script.len() <= LONGEST && !script.contains(&0));
                prop_assert!(cmdline.as_bytes().windows(script.len()).any(|part| part == script));
            }
        }
    }
}
