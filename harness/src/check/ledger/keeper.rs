//! The one pass that keeps the ledger.

use std::collections::{BTreeMap, BTreeSet};

use super::entries::{Claim, File, FileId, Player, Record};
use super::{Harm, Ledger, Loss, OnDisk, Phase, Touch};
use crate::check::view::{Hold, Point};
use crate::fault::Target;
use crate::fault::matching::{Files, compile};
use crate::history::{Event, What};
use crate::op::{Errno, Op, OpId, OpKind, Outcome};
use crate::plan::{Deed, Plan};
use crate::role::Role;
use crate::witness::Said;

/// How many names may move with their folders in one history. A subject that fills a folder and
/// renames it again and again makes as much work as it likes.
const NAMES_MOVED_MAX: usize = 200_000;

#[derive(Debug)]
pub(super) struct Keeper<'a> {
    plan: &'a Plan,
    paths: &'a Files,
    holds: &'a [Hold],
    /// The claim of each stay, and the other way round.
    claims: Vec<Claim>,
    stays: BTreeMap<Claim, usize>,
    by_taken: BTreeMap<u64, usize>,
    players: BTreeMap<Role, Player>,
    files: Vec<File>,
    names: BTreeMap<String, FileId>,
    inodes: BTreeMap<u64, FileId>,
    records: BTreeMap<Claim, Record>,
    moved: usize,
    /// Operations that did not go on at once: what they were shown at first may be another's by now.
    delayed: BTreeSet<OpId>,
    ledger: Ledger,
}

impl<'a> Keeper<'a> {
    pub(super) fn new(plan: &'a Plan, paths: &'a Files, holds: &'a [Hold]) -> Keeper<'a> {
        let mut count: BTreeMap<Role, usize> = BTreeMap::new();
        let mut claims = Vec::new();
        let mut stays = BTreeMap::new();
        for (index, hold) in holds.iter().enumerate() {
            let number = count.entry(hold.role).or_default();
            claims.push((hold.role, *number));
            stays.insert((hold.role, *number), index);
            *number += 1;
        }
        Keeper {
            plan,
            paths,
            holds,
            claims,
            stays,
            by_taken: holds.iter().enumerate().map(|(at, hold)| (hold.taken.seq, at)).collect(),
            players: BTreeMap::new(),
            files: Vec::new(),
            names: BTreeMap::new(),
            inodes: BTreeMap::new(),
            records: BTreeMap::new(),
            moved: 0,
            delayed: BTreeSet::new(),
            ledger: Ledger::default(),
        }
    }

    pub(super) fn finish(mut self) -> Ledger {
        let open: Vec<Role> = self.players.keys().copied().collect();
        for role in open {
            self.close(role);
        }
        self.ledger
    }

    pub(super) fn take_in(&mut self, event: &Event) {
        let point = Point::of(event);
        match &event.what {
            What::Started { role, .. } => {
                self.close(*role);
                let player = self.player(*role);
                player.phase = Phase::Trying(player.begun);
                player.locked.clear();
            }
            What::Exited { role, .. } => self.close(*role),
            What::Witness { role, said } => self.hear(*role, said, point),
            What::Op { op, outcome, fault } => self.see(op, outcome, fault.is_some(), point),
            What::Waiting { op, .. } => {
                self.delayed.insert(op.id);
            }
            What::Done { event, .. } => self.strike(*event, point),
            _ => {}
        }
    }

    fn player(&mut self, role: Role) -> &mut Player {
        self.players.entry(role).or_insert_with(|| Player {
            phase: Phase::Trying(0),
            begun: 0,
            locked: BTreeSet::new(),
            beats: BTreeSet::new(),
        })
    }

    fn hear(&mut self, role: Role, said: &Said, point: Point) {
        match said {
            Said::Entered { .. } => {
                if let Some(index) = self.by_taken.get(&point.seq).copied() {
                    self.close(role);
                    let player = self.player(role);
                    player.phase = Phase::Inside(index);
                    player.begun += 1;
                    self.meet(role, index);
                }
            }
            Said::Left | Said::Aborted => self.close(role),
            Said::Released | Said::ReleaseFailed { .. } => {
                self.close(role);
                let parts = &self.plan.cast;
                let part = parts.iter().find(|part| part.role == role);
                let acquires = part.map_or(1, |part| part.acquires.max(1)) as usize;
                let player = self.player(role);
                if let Phase::Leaving(index) = player.phase {
                    let is_over = player.begun >= acquires;
                    player.phase =
                        if is_over { Phase::Over(index) } else { Phase::Trying(player.begun) };
                    player.locked.clear();
                }
            }
            _ => {}
        }
    }

    /// A stay is over: what is on disk now is what it leaves behind.
    fn close(&mut self, role: Role) {
        let Some(player) = self.players.get_mut(&role) else { return };
        let Phase::Inside(index) = player.phase else { return };
        player.phase = Phase::Leaving(index);
        let on_disk = self.on_disk(index, None);
        self.ledger.ends.insert(self.holds[index].taken.seq, on_disk);
    }

    /// A role has entered: what is there of the locks of those who are inside?
    fn meet(&mut self, role: Role, index: usize) {
        let heir = &self.holds[index];
        let inside: Vec<usize> = self
            .players
            .iter()
            .filter(|(other, _)| **other != role)
            .filter_map(|(_, player)| match player.phase {
                Phase::Inside(on) | Phase::Leaving(on) => Some(on),
                _ => None,
            })
            .filter(|on| self.holds[*on].covers(heir.taken.seq))
            .collect();
        for on in inside {
            let mut on_disk = self.on_disk(on, Some(role));
            let own = self.records.get(&self.claims[index]).and_then(|own| own.lost.as_ref());
            on_disk.is_heirs_loss = own.is_some_and(|lost| lost.by == self.holds[on].role);
            self.ledger.meetings.insert((self.holds[on].taken.seq, heir.taken.seq), on_disk);
        }
    }

    fn on_disk(&self, index: usize, heir: Option<Role>) -> OnDisk {
        let claim = self.claims[index];
        let Some(record) = self.records.get(&claim) else { return OnDisk::default() };
        let lost = record.lost.clone();
        let locked = heir.and_then(|role| self.players.get(&role)).map(|player| &player.locked);
        let is_its = |id: &FileId| {
            let file = &self.files[*id];
            file.created == Some(claim)
                || file.maker == Some(claim)
                || lost.as_ref().is_some_and(|lost| lost.file == *id)
        };
        OnDisk {
            path: record.path.clone(),
            is_there: record.standing > 0,
            is_kernel_locked: locked.is_some_and(|files| files.iter().any(is_its)),
            lost,
            struck: record.struck,
            is_unclear: record.is_unclear,
            is_heirs_loss: false,
        }
    }

    /// What an operation did to names and bytes.
    fn see(&mut self, op: &Op, outcome: &Outcome, is_faulty: bool, at: Point) {
        let file = self.find(op, outcome, is_faulty);
        self.note_habits(op, outcome, file);
        if !outcome.effect {
            return;
        }
        match op.kind {
            OpKind::Mkdir | OpKind::Symlink | OpKind::Create => {
                self.create(op, outcome, file, at);
                return;
            }
            OpKind::Link => self.link(op, file, at),
            OpKind::Rename => self.rename(op, file, at),
            OpKind::Unlink | OpKind::Rmdir => self.remove(op.path(), op, file, at),
            _ => {}
        }
        let is_written = op.kind == OpKind::Write && outcome.told.is_ok_and(|bytes| bytes > 0);
        if let Some(file) = file.filter(|_| !op.unlinked) {
            if matches!(op.kind, OpKind::Utimes | OpKind::Write) || op.is(OpKind::Truncate) {
                self.refresh(op, file, at);
            }
            if is_written {
                self.write(op, file, at);
            }
        }
    }

    /// The file that an operation is about, as far as it is known. Puts right what the operations
    /// so far did not account for.
    fn find(&mut self, op: &Op, outcome: &Outcome, is_faulty: bool) -> Option<FileId> {
        let by_inode = op.ino.and_then(|ino| self.inodes.get(&ino).copied());
        if op.by_descriptor || op.unlinked || op.paths.is_empty() {
            return by_inode;
        }
        let by_name = self.names.get(op.path()).copied();
        if self.delayed.remove(&op.id) {
            return by_name;
        }
        match (op.ino, by_name) {
            (Some(_), Some(named)) if by_inode == Some(named) => Some(named),
            (Some(ino), Some(named)) => {
                // A file that was made when no inode was shown has one now.
                if by_inode.is_none() && self.files[named].ino.is_none() {
                    self.files[named].ino = Some(ino);
                    self.inodes.insert(ino, named);
                    return Some(named);
                }
                self.lose_sight(op.path());
                by_inode
            }
            (Some(_), None) => by_inode,
            (None, Some(_)) if !is_faulty && outcome.told == Err(Errno(libc::ENOENT)) => {
                if matches!(op.kind, OpKind::Lookup | OpKind::Stat) {
                    self.lose_sight(op.path());
                }
                None
            }
            (None, named) => named,
        }
    }

    /// Something unseen took a name: whose doing it was, nobody can tell.
    fn lose_sight(&mut self, path: &str) {
        let Some(file) = self.unname(path) else { return };
        if let Some(record) = self.record_of_maker(file) {
            record.is_unclear = true;
        }
    }

    /// By what a role beats while inside, and on what it is given a kernel lock on its way in.
    fn note_habits(&mut self, op: &Op, outcome: &Outcome, file: Option<FileId>) {
        let is_beat =
            op.can_refresh() && op.refreshed_paths().any(|path| self.paths.is_heartbeat(path));
        let is_lock = matches!(op.kind, OpKind::Flock | OpKind::FcntlLock);
        let is_given = is_lock && outcome.told.is_ok();
        let player = self.player(op.role);
        match player.phase {
            Phase::Inside(_) if is_beat => {
                player.beats.insert(op.kind);
            }
            Phase::Trying(_) if is_given => player.locked.extend(file),
            _ => {}
        }
    }

    fn create(&mut self, op: &Op, outcome: &Outcome, file: Option<FileId>, at: Point) {
        let path = op.path().to_owned();
        let known = outcome.ino.and_then(|ino| self.inodes.get(&ino).copied());
        if known.is_some() && known == self.names.get(&path).copied() {
            // It was there already, and was opened.
            return;
        }
        debug_assert!(file.is_none() || known != file, "what is created was not there");
        self.unname(&path);
        let claim = self.claim(op.role);
        let folder = path.rsplit_once('/').and_then(|(folder, _)| self.names.get(folder).copied());
        let host = folder.and_then(|folder| self.files[folder].stands_for);
        let is_beat = self.is_inside(op.role) && self.paths.is_heartbeat(&path);
        let stands_for = match host {
            Some(host) if is_beat && Some(host) != claim && self.current(host, at).is_some() => {
                self.touch(op, host, Harm::Refreshed, &path, None, at);
                Some(host)
            }
            _ => claim,
        };
        let id = self.files.len();
        let (ino, created, maker) = (outcome.ino, claim, claim);
        self.files.push(File { ino, created, maker, stands_for, made: at, places: 0 });
        if let Some(ino) = outcome.ino {
            self.inodes.insert(ino, id);
        }
        self.name(&path, id);
        self.make(claim, &path);
    }

    fn link(&mut self, op: &Op, file: Option<FileId>, at: Point) {
        let Some(to) = op.to.as_deref() else { return };
        self.arrive(op, file, to, at);
    }

    fn rename(&mut self, op: &Op, file: Option<FileId>, at: Point) {
        let from = op.paths.first().map(String::as_str);
        if let Some(from) = from {
            self.remove(from, op, file, at);
        }
        let Some(to) = op.to.as_deref() else { return };
        if let Some(from) = from {
            self.move_below(from, to);
        }
        self.arrive(op, file, to, at);
    }

    /// A file has got another name: what had it before is gone.
    fn arrive(&mut self, op: &Op, file: Option<FileId>, to: &str, at: Point) {
        let claim = self.claim(op.role);
        let file = file.unwrap_or_else(|| self.stranger(at));
        let before = self.names.get(to).copied().filter(|before| *before != file);
        let mut stands_for = self.files[file].stands_for;
        if let Some(before) = before {
            let place = self.files[before].stands_for;
            let is_beat = self.is_inside(op.role) && self.paths.is_heartbeat(to);
            match place.filter(|place| is_beat && Some(*place) != claim) {
                Some(owner) if self.current(owner, at).is_some() => {
                    self.touch(op, owner, Harm::Refreshed, to, Some(before), at);
                    self.lose(before, op, to, at);
                    stands_for = Some(owner);
                }
                _ => self.take_away(before, op, to, at),
            }
            self.unname(to);
        }
        self.name(to, file);
        self.put_back(op.role, file, to);
        let is_own = self.files[file].maker.is_some_and(|maker| Some(maker) == claim);
        if is_own {
            self.files[file].stands_for = stands_for;
            self.make(claim, to);
        }
    }

    fn remove(&mut self, path: &str, op: &Op, file: Option<FileId>, at: Point) {
        if let Some(file) = self.names.get(path).copied().or(file) {
            self.take_away(file, op, path, at);
        }
        self.unname(path);
    }

    /// A role takes a name from a file: is that another's lock?
    fn take_away(&mut self, file: FileId, op: &Op, path: &str, at: Point) {
        let File { maker, stands_for, .. } = self.files[file];
        let Some(owner) = maker.filter(|owner| owner.0 != op.role) else { return };
        if !self.paths.is_lock(path) || stands_for != Some(owner) {
            return;
        }
        if self.current(owner, at).is_some() || self.is_on_its_way(owner, file, at) {
            self.touch(op, owner, Harm::Removed, path, Some(file), at);
            self.lose(file, op, path, at);
        }
    }

    fn lose(&mut self, file: FileId, op: &Op, path: &str, at: Point) {
        let loss = Loss { at, by: op.role, kind: op.kind, path: path.to_owned(), file };
        if let Some(record) = self.record_of_maker(file) {
            record.lost.get_or_insert(loss);
        }
    }

    /// Bytes are written into a file: on the way in they are the writer's record.
    fn write(&mut self, op: &Op, file: FileId, at: Point) {
        let is_lock = op.paths.iter().any(|path| self.paths.is_lock(path));
        let player = self.player(op.role);
        let Phase::Trying(number) = player.phase else { return };
        let claim = (op.role, number);
        if !is_lock || self.files[file].maker == Some(claim) {
            return;
        }
        if let Some(owner) = self.files[file].maker
            && owner.0 != op.role
            && self.current(owner, at).is_some()
        {
            self.lose(file, op, op.path(), at);
        }
        let places = self.files[file].places;
        if let Some(record) = self.record_of_maker(file).filter(|_| places > 0) {
            record.standing -= 1;
        }
        let file = &mut self.files[file];
        (file.maker, file.stands_for, file.made) = (Some(claim), Some(claim), at);
        if places > 0 {
            self.records.entry(claim).or_default().standing += 1;
        }
        self.make(Some(claim), op.path());
    }

    /// A file is refreshed: is it another's lock?
    fn refresh(&mut self, op: &Op, file: FileId, at: Point) {
        let is_beat = op.refreshed_paths().any(|path| self.paths.is_heartbeat(path));
        let Some(owner) = self.files[file].stands_for.filter(|owner| owner.0 != op.role) else {
            return;
        };
        let is_trying = matches!(self.player(op.role).phase, Phase::Trying(_));
        if is_beat && !is_trying && self.current(owner, at).is_some() {
            self.touch(op, owner, Harm::Refreshed, op.path(), Some(file), at);
        }
    }

    fn touch(
        &mut self,
        op: &Op,
        owner: Claim,
        harm: Harm,
        path: &str,
        file: Option<FileId>,
        at: Point,
    ) {
        let Some(stay) = self.stays.get(&owner).copied() else { return };
        let player = self.player(op.role);
        let (phase, is_like_a_beat) = (player.phase, player.beats.contains(&op.kind));
        if at.seq < self.holds[stay].taken.seq {
            let place = self.ledger.touches.len();
            self.records.entry(owner).or_default().before_entering.push(place);
        }
        self.ledger.touches.push(Touch {
            at,
            by: op.role,
            phase,
            harm,
            kind: op.kind,
            path: path.to_owned(),
            is_like_a_beat,
            owner: stay,
            made: file.map(|file| self.files[file].made),
            file,
            is_void: false,
        });
    }

    /// A role gives a file back the name that it has taken from it.
    fn put_back(&mut self, role: Role, file: FileId, path: &str) {
        let last = self.ledger.touches.last_mut();
        let Some(touch) = last.filter(|touch| {
            touch.by == role && touch.file == Some(file) && touch.path == path && !touch.is_void
        }) else {
            return;
        };
        touch.is_void = true;
        if let Some(record) = self.record_of_maker(file)
            && record.lost.as_ref().is_some_and(|lost| lost.file == file && lost.by == role)
        {
            record.lost = None;
        }
    }

    /// A claim has made a file, or given it a name: what it lost before it knows of.
    fn make(&mut self, claim: Option<Claim>, path: &str) {
        let Some(claim) = claim.filter(|_| self.paths.is_lock(path)) else { return };
        let is_trying = matches!(self.player(claim.0).phase, Phase::Trying(_));
        let record = self.records.entry(claim).or_default();
        if record.path.as_ref().is_none_or(|known| path.len() < known.len()) {
            record.path = Some(path.to_owned());
        }
        if !is_trying {
            return;
        }
        (record.lost, record.struck, record.is_unclear) = (None, None, false);
        for place in std::mem::take(&mut record.before_entering) {
            self.ledger.touches[place].is_void = true;
        }
    }

    /// The harness has done an event: what it removes was no role's doing.
    fn strike(&mut self, number: u32, at: Point) {
        let act = self.plan.events.iter().find(|act| act.number == number);
        let Some(Deed::Remove(target) | Deed::Rename(target, _)) = act.map(|act| &act.what) else {
            return;
        };
        // Compiled once: a malformed glob means nothing.
        let glob = match target {
            Target::Glob(glob) => compile([glob.as_str()]).ok(),
            _ => None,
        };
        let is_hit = |name: &&String| match (target, &glob) {
            (Target::Glob(_), glob) => {
                glob.as_ref().is_some_and(|glob| glob.is_match(name.as_str()))
            }
            _ => self.paths.matches(target, name),
        };
        let hit: Vec<String> = self.names.keys().filter(is_hit).cloned().collect();
        for path in hit {
            for name in self.below(&path) {
                self.strike_name(&name, number, at);
            }
            self.strike_name(&path, number, at);
        }
    }

    fn strike_name(&mut self, path: &str, number: u32, at: Point) {
        let Some(file) = self.unname(path) else { return };
        if let Some(record) = self.record_of_maker(file) {
            record.struck.get_or_insert((at, number));
        }
    }

    fn below(&self, folder: &str) -> Vec<String> {
        let prefix = format!("{folder}/");
        let from = self.names.range(prefix.clone()..);
        from.map(|(name, _)| name).take_while(|name| name.starts_with(&prefix)).cloned().collect()
    }

    /// What is below a folder moves with it.
    fn move_below(&mut self, from: &str, to: &str) {
        let names = self.below(from);
        self.moved += names.len();
        if self.moved > NAMES_MOVED_MAX {
            self.ledger.is_cut = true;
            return;
        }
        for old in names {
            let Some(file) = self.unname(&old) else { continue };
            let new = format!("{to}{}", &old[from.len()..]);
            self.unname(&new);
            self.name(&new, file);
        }
    }

    fn name(&mut self, path: &str, file: FileId) {
        self.names.insert(path.to_owned(), file);
        if self.paths.is_lock(path) {
            self.files[file].places += 1;
            if self.files[file].places == 1
                && let Some(record) = self.record_of_maker(file)
            {
                record.standing += 1;
            }
        }
    }

    fn unname(&mut self, path: &str) -> Option<FileId> {
        let file = self.names.remove(path)?;
        if self.paths.is_lock(path) {
            self.files[file].places -= 1;
            if self.files[file].places == 0
                && let Some(record) = self.record_of_maker(file)
            {
                record.standing -= 1;
            }
        }
        Some(file)
    }

    fn record_of_maker(&mut self, file: FileId) -> Option<&mut Record> {
        let maker = self.files[file].maker?;
        Some(self.records.entry(maker).or_default())
    }

    /// A file that nobody was seen to make.
    fn stranger(&mut self, at: Point) -> FileId {
        let (created, maker, stands_for) = (None, None, None);
        self.files.push(File { ino: None, created, maker, stands_for, made: at, places: 0 });
        self.files.len() - 1
    }

    /// To which claim of a role that which it makes now belongs; none while it releases.
    fn claim(&mut self, role: Role) -> Option<Claim> {
        match self.player(role).phase {
            Phase::Trying(number) => Some((role, number)),
            Phase::Inside(index) => Some(self.claims[index]),
            Phase::Leaving(_) | Phase::Over(_) => None,
        }
    }

    fn is_inside(&mut self, role: Role) -> bool {
        matches!(self.player(role).phase, Phase::Inside(_))
    }

    /// The stay of a claim, if it is certainly on at this point.
    fn current(&self, claim: Claim, at: Point) -> Option<usize> {
        self.stays.get(&claim).copied().filter(|stay| self.holds[*stay].covers(at.seq))
    }

    /// Whether a claim that will enter has created this file and is on its way in.
    fn is_on_its_way(&self, claim: Claim, file: FileId, at: Point) -> bool {
        let stay = self.stays.get(&claim);
        stay.is_some_and(|stay| at.seq < self.holds[*stay].taken.seq)
            && self.files[file].created == Some(claim)
    }
}
