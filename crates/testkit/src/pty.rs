//! A terminal for tests: what a program draws there, keys for it, and how large it is.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

/// One terminal with one program in it, as the leader of a session of its own.
#[derive(Debug)]
pub struct Terminal {
    master: OwnedFd,
    /// Kept open, so that what was drawn last can still be read.
    slave: File,
    child: Child,
    drawn: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// Starts `program` with its arguments and environment.
    pub fn start(program: &Command, columns: u16, rows: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("open a terminal");
        grantpt(&master).expect("grant the terminal");
        unlockpt(&master).expect("unlock the terminal");
        let name = ptsname(&master, Vec::new()).expect("the terminal's name");
        let name = name.into_string().expect("a name in ASCII");
        let slave = File::options().read(true).write(true).open(&name).expect("open the terminal's other side");
        // It becomes the session's terminal, so that Ctrl-C and changes of its size arrive as signals.
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]).arg(program.get_program()).args(program.get_args());
        command.env_clear();
        command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        if let Some(folder) = program.get_current_dir() {
            command.current_dir(folder);
        }
        let end = || slave.try_clone().expect("the terminal once more");
        command.stdin(end()).stdout(end()).stderr(end());
        let drawn = Arc::new(Mutex::new(Vec::new()));
        let (into, mut from) = (drawn.clone(), File::from(master.try_clone().expect("the terminal once more")));
        let terminal = Self { master, slave, child: command.spawn().expect("start a program"), drawn };
        terminal.resize(columns, rows);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // An error when its last user is gone.
            while let Ok(count) = from.read(&mut buffer) {
                into.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..count]);
            }
        });
        terminal
    }

    /// Everything that was drawn, escape sequences included.
    pub fn drawn(&self) -> String {
        String::from_utf8_lossy(&self.drawn.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// Waits until this was drawn.
    pub fn wait_for(&self, text: &str, deadline: Duration) {
        let until = Instant::now() + deadline;
        while !self.drawn().contains(text) {
            assert!(Instant::now() < until, "{text:?} is not drawn: {:?}", self.drawn());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub fn press(&self, keys: &str) {
        let mut master = File::from(self.master.try_clone().expect("the terminal once more"));
        master.write_all(keys.as_bytes()).expect("press a key");
    }

    pub fn resize(&self, columns: u16, rows: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.master, size).expect("resize the terminal");
    }

    /// Keys are echoed and come line by line, as a shell expects it.
    pub fn is_as_it_was(&self) -> bool {
        let modes = tcgetattr(&self.slave).expect("ask the terminal").local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    /// Waits for the program's end; its exit code.
    pub fn end(&mut self, deadline: Duration) -> Option<i32> {
        let until = Instant::now() + deadline;
        loop {
            if let Some(status) = self.child.try_wait().expect("wait for the program") {
                return status.code();
            }
            assert!(Instant::now() < until, "the program does not end: {:?}", self.drawn());
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
