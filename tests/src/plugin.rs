//! Plugins, told from outside: when the folder is looked at.

use std::fs::{self, File};
use std::io::Read as _;
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tempfile::TempDir;
use wharf_tests::Server;

/// How long something may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(180);

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited for: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What nobody asked for looks at names, sizes and times alone: whoever opens a file that has not changed was asked to.
#[test]
fn the_folder_is_read_again_at_sighup_and_on_demand() {
    let asks: [fn(&Server) -> Result<()>; 2] =
        [|server| server.signal("HUP"), |server| server.wharf(&["plugin", "rescan"]).map(drop)];
    for ask in asks {
        let data = TempDir::new().unwrap();
        let file = data.path().join("plugins/p.wasm");
        fs::create_dir(data.path().join("plugins")).unwrap();
        // Refused for good, so that it is not tried again either.
        fs::write(&file, "no plugin").unwrap();
        let server = Server::start_in(data.path(), &[]).unwrap();
        until("the first look", || server.wharf(&["plugin", "ls"]).unwrap().contains("refused `p.wasm`"));
        let opens = inotify::init(CreateFlags::NONBLOCK).unwrap();
        inotify::add_watch(&opens, &file, WatchFlags::OPEN).unwrap();
        let mut opens = File::from(opens);
        ask(&server).unwrap();
        until("the look that was asked for", || opens.read(&mut [0; 1024]).is_ok());
    }
}
