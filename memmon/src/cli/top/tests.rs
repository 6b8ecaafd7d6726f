//! Tests of the screen, cell by cell, and of the keys.

use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};

use super::{
    model::Model,
    overlay::Overlay,
    sample::{Alone, Sample},
    sort::Sort,
    update::{Command, Message, update},
    view::{Looks, view},
};
use crate::{
    model::{Bytes, Parts, Pid, ProcessId, StartTime, SystemMemory, Uid},
    status::{FromElder, Growth, Kept, Other, Row, Sharing, Table, Text, VerdictKind},
};

mod groups;

const GB: u64 = Bytes::GIB;
const MB: u64 = Bytes::MIB;
const PLAIN: Looks = Looks { colour: false, unicode: true };

fn row(pid: u32, comm: &str, uid: u32, rss: u64, verdict: VerdictKind, why: &str) -> Row {
    Row {
        id: ProcessId { pid: Pid(pid), start: StartTime(1) },
        comm: comm.into(),
        uid: Uid(uid),
        rss_bytes: Bytes(rss),
        error_bytes: Bytes::ZERO,
        parts: Some(Parts {
            anon: Bytes(rss / 2),
            file: Bytes(rss / 2),
            shmem: Bytes::ZERO,
            swap: Bytes(MB),
        }),
        charged_bytes: None,
        sharing: Sharing::default(),
        verdict,
        why: Text::from(why),
        phase: None,
        growth: Growth::default(),
        rule: None,
        limit_bytes: None,
        unit: None,
    }
}

fn sample(at: f64, rows: Vec<Row>) -> Box<Sample> {
    let limit_bytes = Bytes(2 * GB);
    let table = Table {
        memory: SystemMemory { total: Bytes(16 * GB), available: Bytes(9 * GB) },
        limit_bytes,
        processes: 245,
        over: rows.iter().filter(|row| row.rss_bytes > limit_bytes).count(),
        rows,
    };
    let users = [(Uid(0), "root".to_owned()), (Uid(1000), "alice".to_owned())].into();
    let alone = Alone { why: "no daemon", rules_from: "/etc/memmon/config.toml".to_owned() };
    Box::new(Sample { at, table, sums: vec![], status: None, alone: Some(alone), users })
}

fn rows(growth: u64) -> Vec<Row> {
    let mut dying = row(4242, "make\u{1b}[2J", 1000, 3 * GB, VerdictKind::Terminate, "ram_gb_threshold");
    dying.phase = Some("grace".into());
    vec![
        row(12_345, "chrome", 1000, 7 * GB / 2, VerdictKind::Terminate, "ram_gb_threshold"),
        dying,
        row(77, "python3", 47_001, GB + growth, VerdictKind::Within, ""),
        row(1, "systemd", 0, 12 * MB, VerdictKind::Protected, "pid 1"),
    ]
}

/// Seven processes over the limit, and one within it.
fn crowd() -> Model {
    let over = (1..=7)
        .map(|pid| row(pid, &format!("hog{pid}"), 1000, 3 * GB, VerdictKind::Terminate, "ram_gb_threshold"));
    let within = row(9, "postgres", 47_001, 9 * GB / 5, VerdictKind::Within, "");
    updated(at_size(80, 24), [Message::Sample(sample(0.0, over.chain([within]).collect()))])
}

fn at_size(columns: u16, lines: u16) -> Model {
    update(Model::default(), Message::Size(columns, lines)).0
}

fn updated(model: Model, messages: impl IntoIterator<Item = Message>) -> Model {
    messages.into_iter().fold(model, |model, message| update(model, message).0)
}

fn key(code: KeyCode) -> Message {
    Message::Key(KeyEvent::new(code, KeyModifiers::NONE))
}

fn keys(text: &str) -> impl Iterator<Item = Message> {
    text.chars().map(|typed| key(KeyCode::Char(typed)))
}

fn draw(model: &Model, looks: Looks) -> Terminal<TestBackend> {
    let (columns, lines) = model.size;
    let mut terminal = Terminal::new(TestBackend::new(columns, lines)).unwrap();
    terminal.draw(|frame| view(model, looks, frame)).unwrap();
    terminal
}

fn screen(model: &Model) -> String {
    let terminal = draw(model, PLAIN);
    let buffer = terminal.backend().buffer();
    let lines = buffer.content.chunks(buffer.area.width.into());
    let lines = lines.map(|line| line.iter().map(ratatui::buffer::Cell::symbol).collect::<String>());
    lines.map(|line| line.trim_end().to_owned() + "\n").collect()
}

fn order(model: &Model) -> Vec<u32> {
    model.visible().map(|(row, _)| row.id.pid.0).collect()
}

fn chosen(model: &Model) -> u32 {
    model.chosen().unwrap().id.pid.0
}

fn three_seconds() -> Model {
    let samples = [0_u32, 1, 2]
        .map(|second| Message::Sample(sample(f64::from(second), rows(u64::from(second) * 64 * MB))));
    updated(at_size(80, 24), samples)
}

#[test]
fn a_terminal_of_80_by_24() {
    insta::assert_snapshot!(screen(&three_seconds()), @r"
    memmon  no daemon: own look at /proc  limit 2.00GB
    Mem █████████████████████░░░░░░░░░░░░░░░░░░░░░░░░░░ 43.8% used  7.00GB / 16.00GB
    245 processes, 2 over, by the rules of /etc/memmon/config.toml

        PID USER     NAME               RSS LIMIT  GROWTH  LEFT TREND    VERDICT
      12345 alice    chrome          3.50GB  175%          over ▁▁▁      terminate
       4242 alice    make\u{1b}[2J   3.00GB  150%          over ▁▁▁      grace
         77 47001    python3         1.12GB   56% +64.0MB   14s ▁▅█      within
          1 root     systemd         12.0MB    1%               ▁▁▁      protected











    12345 chrome (alice)  terminate: ram_gb_threshold
    anon 1.75GB  file 1.75GB  shmem 0B  swap 1.00MB

     q quit  ? help  enter explain  / filter  tab group  s sort (memory)
    ");
}

#[test]
fn a_wide_terminal_has_the_parts_in_columns() {
    let model = updated(three_seconds(), [Message::Size(120, 12)]);
    insta::assert_snapshot!(screen(&model), @r"
    memmon  no daemon: own look at /proc  limit 2.00GB
    Mem ██████████████████████████████████████░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░ 43.8% used  7.00GB / 16.00GB
    245 processes, 2 over, by the rules of /etc/memmon/config.toml

        PID USER     NAME               RSS   ANON   FILE  SHMEM   SWAP LIMIT  GROWTH  LEFT TREND    VERDICT
      12345 alice    chrome          3.50GB 1.75GB 1.75GB     0B 1.00MB  175%          over ▁▁▁      terminate ram_gb_thresh
       4242 alice    make\u{1b}[2J   3.00GB 1.50GB 1.50GB     0B 1.00MB  150%          over ▁▁▁      grace
         77 47001    python3         1.12GB  576MB  576MB     0B 1.00MB   56% +64.0MB   14s ▁▅█      within
          1 root     systemd         12.0MB 6.00MB 6.00MB     0B 1.00MB    1%               ▁▁▁      protected pid 1
    12345 chrome (alice)  terminate: ram_gb_threshold
    anon 1.75GB  file 1.75GB  shmem 0B  swap 1.00MB
     q quit  ? help  enter explain  / filter  tab group  s sort (memory)  space freeze
    ");
}

#[test]
fn any_terminal_size_works() {
    for (columns, lines) in [(0, 0), (1, 1), (10, 3), (200, 8), (79, 9), (500, 100)] {
        let model = updated(three_seconds(), [Message::Size(columns, lines)]);
        draw(&model, PLAIN);
        draw(&updated(model, [key(KeyCode::Char('?'))]), PLAIN);
    }
}

#[test]
fn a_terminal_of_60_by_20_has_whole_columns() {
    let model = updated(three_seconds(), [Message::Size(60, 20)]);
    insta::assert_snapshot!(screen(&model), @r"
    memmon  no daemon: own look at /proc  limit 2.00GB
    Mem ████████████░░░░░░░░░░░░░░░ 43.8% used  7.00GB / 16.00GB
    245 processes, 2 over, by the rules of /etc/memmon/config.to

        PID NAME               RSS LIMIT  GROWTH  LEFT VERDICT
      12345 chrome          3.50GB  175%          over terminate
       4242 make\u{1b}[2J   3.00GB  150%          over grace
         77 python3         1.12GB   56% +64.0MB   14s within
          1 systemd         12.0MB    1%               protected







    12345 chrome (alice)  terminate: ram_gb_threshold
    anon 1.75GB  file 1.75GB  shmem 0B  swap 1.00MB

     q quit  ? help  enter explain  / filter  tab group
    ");
}

#[test]
fn a_terminal_of_40_by_8_has_rows_with_pids() {
    let model = updated(three_seconds(), [Message::Size(40, 8)]);
    insta::assert_snapshot!(screen(&model), @r"
    memmon  no daemon  limit 2.00GB
    245 processes, 2 over, by the rules of /
        PID NAME               RSS VERDICT
      12345 chrome          3.50GB terminate
       4242 make\u{1b}[2J   3.00GB grace
         77 python3         1.12GB within
          1 systemd         12.0MB protected
     q quit  ? help  enter explain
    ");
    let model = updated(model, keys("/hog"));
    insta::assert_snapshot!(screen(&model), @r#"
    memmon  no daemon  limit 2.00GB
    Filter: hog_  (0 of the 4 largest)
    None of the 4 largest processes has
    "hog" in its name, user, pid or verdict.
    Esc shows all.


     enter keep  esc all
    "#);
}

#[test]
fn the_selected_process_has_its_charged_memory_and_the_others_that_share_it() {
    let other = |pid, comm: &str| Other { pid: Pid(pid), comm: Some(comm.into()) };
    let mut backend =
        row(813, "postgres", 1000, 3 * GB, VerdictKind::Within, "its end would give back 0.01GB");
    backend.charged_bytes = Some(Bytes(14 * MB));
    backend.sharing = Sharing {
        inherited: Some(FromElder { bytes: Bytes(40 * MB), elder: other(77, "python3") }),
        kept: Some(Kept {
            bytes: Bytes(284 * MB),
            object: "/dev/zero".into(),
            object_bytes: Bytes(284 * MB),
            holder: Some(other(812, "postgres")),
        }),
    };
    let model = updated(at_size(140, 24), [Message::Sample(sample(0.0, vec![backend]))]);
    let shown = screen(&model);
    for text in [
        "   SWAP CHARGED LIMIT",
        " 1.00MB  14.0MB  150%",
        "swap 1.00MB  charged 14.0MB\n",
        "inherited 40.0MB at its fork from pid 77 (python3); 284MB stay, most in \"/dev/zero\", which pid 812 (postgres) holds as well\n",
    ] {
        assert!(shown.contains(text), "{text:?} is not in\n{shown}");
    }
}

#[test]
fn processes_over_the_limit_that_are_not_on_the_screen_are_counted() {
    let counts = |model: &Model| {
        let shown = screen(model);
        shown.lines().find(|line| line.contains(" over")).unwrap_or_default().to_owned()
    };
    let model = crowd();
    assert_eq!(counts(&model), "245 processes, 7 over, by the rules of /etc/memmon/config.toml");
    let small = updated(model.clone(), [Message::Size(80, 8)]);
    assert_eq!(
        counts(&small),
        "245 processes, 7 over (3 off the screen), by the rules of /etc/memmon/config.tom"
    );
    let filtered = updated(model.clone(), keys("/hog3"));
    assert!(
        counts(&filtered).starts_with("245 processes, 7 over (6 filtered out), "),
        "{}",
        counts(&filtered)
    );
    let mut unread = model.sample.clone().unwrap();
    unread.table.over += 2;
    let unread = updated(model, [Message::Sample(Box::new(unread))]);
    assert!(
        counts(&unread).starts_with("245 processes, 9 over (2 not readable or too many), "),
        "{}",
        counts(&unread)
    );
}

#[test]
fn a_filter_without_a_hit_does_not_leave_the_screen_empty() {
    let model = updated(crowd(), keys("/nginx"));
    let shown = screen(&model);
    let expected = "None of the 8 largest processes has \"nginx\" in its name, user, pid or";
    assert!(shown.contains(expected) && shown.contains("Esc shows all."), "{shown}");
    let all = updated(crowd(), [Message::Sample(sample(1.0, vec![]))]);
    assert!(screen(&all).contains("No process can be looked at."), "{}", screen(&all));
}

/// No cell has two colours that may be alike: of the colours that a theme chooses, black, white, yellow and grey can be
/// the background.
#[test]
fn every_colour_can_be_read_on_dark_and_on_light() {
    use ratatui::style::{Color, Modifier};
    let mut rows = rows(0);
    rows.push(row(88, "postgres", 1000, 19 * GB / 10, VerdictKind::Within, ""));
    rows.push(row(89, "doubtful", 1000, 3 * GB, VerdictKind::Unsure, "its cgroup is unreadable"));
    let model = updated(at_size(80, 24), [Message::Sample(sample(0.0, rows))]);
    for down in 0..6 {
        let moved = updated(model.clone(), (0..down).map(|_| key(KeyCode::Down)));
        let drawn = draw(&moved, Looks { colour: true, unicode: true });
        let buffer = drawn.backend().buffer();
        let mut selected = 0;
        for (place, cell) in buffer.content.iter().enumerate() {
            let readable = [Color::Reset, Color::Red, Color::Magenta, Color::Green];
            let marked = (cell.fg, cell.bg) == (Color::Black, Color::Yellow);
            let is_bar = "█░".contains(cell.symbol());
            assert!(marked || is_bar || (readable.contains(&cell.fg) && cell.bg == Color::Reset), "{cell:?}");
            // The header is reversed, too.
            if cell.modifier.contains(Modifier::REVERSED) && !cell.modifier.contains(Modifier::BOLD) {
                assert_eq!((cell.fg, cell.bg), (Color::Reset, Color::Reset), "{place}");
                selected += 1;
            }
        }
        assert_eq!(selected, 80, "one row");
        assert!(
            buffer.content.iter().any(|cell| cell.bg == Color::Yellow) || down == 3,
            "the one near its limit"
        );
    }
}

#[test]
fn everything_is_shown_without_colour_and_unicode() {
    let model = three_seconds();
    let plain = draw(&model, Looks { colour: false, unicode: false });
    for cell in &plain.backend().buffer().content {
        assert!(cell.symbol().is_ascii(), "{:?}", cell.symbol());
        assert_eq!((cell.fg, cell.bg), (ratatui::style::Color::Reset, ratatui::style::Color::Reset));
    }
    let coloured = draw(&model, Looks { colour: true, unicode: true });
    assert!(coloured.backend().buffer().content.iter().any(|cell| cell.fg == ratatui::style::Color::Red));
}

#[test]
fn keys_sort_both_ways() {
    let model = three_seconds();
    assert_eq!(order(&model), [12_345, 4242, 77, 1]);
    for (typed, expected) in [
        ("p", [1, 77, 4242, 12_345]),
        ("pr", [12_345, 4242, 77, 1]),
        ("n", [12_345, 4242, 77, 1]),
        ("u", [77, 12_345, 4242, 1]),
        ("g", [77, 12_345, 4242, 1]),
        ("t", [77, 12_345, 4242, 1]),
        ("gm", [12_345, 4242, 77, 1]),
        ("s", [77, 12_345, 4242, 1]),
    ] {
        assert_eq!(order(&updated(model.clone(), keys(typed))), expected, "{typed}");
    }
    assert_eq!(updated(model, keys("ssssss")).sort, Sort::Memory, "all the way round");
}

#[test]
fn a_filter_is_typed_kept_and_dropped() {
    let model = updated(three_seconds(), keys("/alice"));
    assert!(model.typing);
    assert_eq!(order(&model), [12_345, 4242]);
    let model = updated(model, keys(" x"));
    assert_eq!(order(&model), [0; 0]);
    assert_eq!(update(model.clone(), key(KeyCode::Enter)).1, None);
    let model = updated(model, [key(KeyCode::Backspace), key(KeyCode::Backspace), key(KeyCode::Enter)]);
    assert!(!model.typing);
    assert!(screen(&model).contains("Filter: alice  (2 of the 4 largest)"), "{}", screen(&model));
    let (model, command) = update(model, key(KeyCode::Esc));
    assert_eq!((order(&model).len(), command), (4, None));
    assert_eq!(update(model.clone(), key(KeyCode::Esc)).1, Some(Command::Quit));
    for (typed, pid) in [("/protec", 1), ("/PYTH", 77), ("/424", 4242)] {
        assert_eq!(order(&updated(model.clone(), keys(typed))), [pid], "{typed}");
    }
    // Keys that have another meaning outside the filter.
    assert_eq!(updated(model, keys("/q/r")).filter, "q/r");
}

#[test]
fn a_frozen_screen_does_not_change() {
    let model = updated(three_seconds(), keys(" "));
    let before = screen(&model);
    assert!(before.contains("FROZEN"), "{before}");
    let later = updated(model, [Message::Sample(sample(3.0, vec![]))]);
    assert_eq!(screen(&later), before);
    let later = updated(later, keys(" ").chain([Message::Sample(sample(4.0, vec![]))]));
    assert_eq!(order(&later), [0; 0]);
    assert!(update(later, key(KeyCode::Enter)).1.is_none(), "there is nobody to explain");
}

#[test]
fn the_cursor_stays_with_its_process() {
    let model = updated(three_seconds(), [key(KeyCode::Down), key(KeyCode::Down)]);
    assert_eq!(chosen(&model), 77);
    let grown = updated(model.clone(), [Message::Sample(sample(3.0, rows(3 * GB)))]);
    assert_eq!(chosen(&grown), 77);
    let sorted = updated(grown, keys("p"));
    assert_eq!((chosen(&sorted), order(&sorted)[1]), (77, 77));
    let gone = updated(sorted, [Message::Sample(sample(4.0, rows(0)[..2].to_vec()))]);
    assert_eq!(chosen(&gone), order(&gone)[0], "or goes to the first when it has gone");
    assert_eq!(chosen(&updated(model, [key(KeyCode::End), key(KeyCode::Down)])), 1);
}

#[test]
fn only_the_visible_rows_of_five_thousand_are_formatted() {
    let many =
        (0..5000).map(|pid| row(pid, "many", 1000, u64::from(5000 - pid) * MB / 8, VerdictKind::Within, ""));
    let model = updated(at_size(80, 24), [Message::Sample(sample(0.0, many.collect()))]);
    assert_eq!((model.count(), model.visible().count()), (5000, 15));
    let model = updated(model, [key(KeyCode::PageDown), key(KeyCode::PageDown)]);
    assert_eq!(chosen(&model), 30);
    assert_eq!(order(&model), (16..31).collect::<Vec<_>>());
    let end = updated(model, [key(KeyCode::End)]);
    assert_eq!(order(&end), (4985..5000).collect::<Vec<_>>());
    assert_eq!(
        order(&updated(end.clone(), [key(KeyCode::Up)])),
        order(&end),
        "the cursor moves, the rows do not"
    );
    assert_eq!(order(&updated(end, [key(KeyCode::Home)]))[0], 0);
}

#[test]
fn enter_explains_the_process_under_the_cursor() {
    let (model, command) = update(three_seconds(), key(KeyCode::Enter));
    let process = ProcessId { pid: Pid(12_345), start: StartTime(1) };
    assert_eq!(command, Some(Command::Explain(process)));
    assert!(screen(&model).contains("Looking at 12345 …"), "{}", screen(&model));
    let other = ProcessId { pid: Pid(7), start: StartTime(1) };
    let model = updated(model, [Message::Explained(other, "late".to_owned())]);
    assert!(!screen(&model).contains("late"), "the answer to another question");
    let text: String = (0..40).map(|line| format!("rule {line}\n")).collect();
    let model = updated(model, [Message::Explained(process, text)]);
    assert!(screen(&model).contains("rule 0\n"));
    let down = updated(model, [key(KeyCode::PageDown), key(KeyCode::PageDown), key(KeyCode::Down)]);
    let shown = screen(&down);
    assert!(shown.contains("rule 39\n") && !shown.contains("rule 23\n"), "{shown}");
    assert_eq!(updated(down, keys("q")).overlay, None, "back, not away");
}

#[test]
fn growth_covers_the_last_seconds() {
    let grown = |points: &[(f64, u64)], error| {
        let messages = points.iter().map(|(at, rss)| {
            let mut one = row(5, "x", 0, *rss, VerdictKind::Within, "");
            one.error_bytes = Bytes(error);
            Message::Sample(sample(*at, vec![one]))
        });
        let model = updated(at_size(80, 24), messages);
        let row = model.chosen().unwrap();
        (model.growth(row), model.left(row))
    };
    assert_eq!(grown(&[(0.0, GB)], 0), (None, None));
    assert_eq!(grown(&[(0.0, GB), (2.0, GB + 200)], 0), (Some(100.0), Some((GB - 200) as f64 / 100.0)));
    assert_eq!(grown(&[(0.0, GB), (2.0, GB + 200)], 200), (Some(0.0), None), "that may be no growth at all");
    assert_eq!(grown(&[(0.0, 9000), (1.0, 4000)], 0).0, Some(-5000.0));
    assert_eq!(grown(&[(0.0, 0), (20.0, 1000), (25.0, 2000)], 0).0, Some(200.0), "what was long ago is over");
    assert_eq!(grown(&[(0.0, 0), (60.0, 600)], 0).0, Some(10.0), "unless there is nothing later");
    assert_eq!(grown(&[(1.0, 0), (1.0, 600)], 0).0, None);
    assert_eq!(grown(&[(0.0, 3 * GB), (1.0, 4 * GB)], 0).1, None, "over already");
}

#[test]
fn no_control_character_reaches_the_screen() {
    let model = updated(three_seconds(), [Message::Trouble("bad\u{1b}[31m\nnews".to_owned())]);
    let shown = screen(&model);
    assert!(shown.contains(r"make\u{1b}[2J") && shown.contains(r"bad\u{1b}[31m\nnews"), "{shown}");
    let model = updated(model, keys("/\u{202e}\u{7}"));
    assert!(screen(&model).contains(r"Filter: \u{202e}\u{7}_"), "{}", screen(&model));
    assert_eq!(
        draw(&model, PLAIN)
            .backend()
            .buffer()
            .content
            .iter()
            .filter(|cell| cell.symbol().contains(char::is_control))
            .count(),
        0
    );
}

#[test]
fn quitting_is_always_possible() {
    for model in [
        at_size(80, 24),
        three_seconds(),
        updated(three_seconds(), keys("/a")),
        updated(three_seconds(), keys("?")),
    ] {
        let interrupt = Message::Key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL));
        assert_eq!(update(model, interrupt).1, Some(Command::Quit));
    }
    assert_eq!(update(three_seconds(), key(KeyCode::Char('q'))).1, Some(Command::Quit));
    assert_eq!(updated(three_seconds(), keys("?")).overlay, Some(Overlay::Help { first: 0 }));
}
