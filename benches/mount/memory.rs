//! A file system in memory, over the same kernel and the same library: what FUSE costs when nothing is to be fetched.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    InitFlags, KernelConfig, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEntry, ReplyOpen, ReplyXattr, Request,
};
use tempfile::TempDir;

const TTL: Duration = Duration::from_secs(3600);

/// A copy of a directory, mounted. Dropping it unmounts it.
pub struct Memory {
    // Unmounted before its directory is removed.
    _session: BackgroundSession,
    directory: TempDir,
}

impl Memory {
    pub fn mount(from: &Path) -> Memory {
        let directory = tempfile::Builder::new().prefix("imapfs-memory-").tempdir().unwrap();
        let mut config = Config::default();
        config.mount_options = vec![MountOption::RO, MountOption::FSName("memory".to_owned())];
        let mut tree = Tree::default();
        tree.load(from, INodeNo::ROOT);
        Memory { _session: fuser::spawn_mount(tree, directory.path(), &config).unwrap(), directory }
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().to_owned()
    }
}

struct Node {
    attr: FileAttr,
    parent: INodeNo,
    children: Vec<(OsString, INodeNo)>,
    by_name: HashMap<OsString, INodeNo>,
    data: Vec<u8>,
}

/// Nodes by their number, less one.
#[derive(Default)]
struct Tree(Vec<Node>);

impl Tree {
    fn load(&mut self, path: &Path, parent: INodeNo) -> INodeNo {
        let ino = INodeNo(self.0.len() as u64 + 1);
        let is_directory = path.is_dir();
        let data = if is_directory { Vec::new() } else { std::fs::read(path).unwrap() };
        self.0.push(Node {
            attr: attr(ino, is_directory, data.len() as u64),
            parent,
            children: Vec::new(),
            by_name: HashMap::new(),
            data,
        });
        if is_directory {
            for entry in std::fs::read_dir(path).unwrap() {
                let name = entry.unwrap().file_name();
                let child = self.load(&path.join(&name), ino);
                let node = &mut self.0[ino.0 as usize - 1];
                node.by_name.insert(name.clone(), child);
                node.children.push((name, child));
            }
        }
        ino
    }

    fn get(&self, ino: INodeNo) -> &Node {
        &self.0[ino.0 as usize - 1]
    }

    /// The entries of a directory from `offset` on, each with the offset behind it.
    fn list(&self, ino: INodeNo, offset: u64) -> impl Iterator<Item = (u64, &OsStr, &FileAttr)> {
        let node = self.get(ino);
        let dots = [(OsStr::new("."), ino), (OsStr::new(".."), node.parent)];
        let passed = node.children.len().min(offset.saturating_sub(2) as usize);
        let children = node.children[passed..].iter().map(|(name, ino)| (name.as_os_str(), *ino));
        let all = dots.into_iter().skip(offset as usize).chain(children);
        all.zip(offset + 1..).map(|((name, ino), next)| (next, name, &self.get(ino).attr))
    }
}

fn attr(ino: INodeNo, is_directory: bool, size: u64) -> FileAttr {
    FileAttr {
        ino,
        size,
        blocks: size.div_ceil(512),
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: if is_directory { FileType::Directory } else { FileType::RegularFile },
        perm: if is_directory { 0o755 } else { 0o644 },
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        flags: 0,
        blksize: 4096,
    }
}

impl Filesystem for Tree {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        let capabilities =
            [InitFlags::FUSE_PARALLEL_DIROPS, InitFlags::FUSE_DO_READDIRPLUS, InitFlags::FUSE_READDIRPLUS_AUTO];
        for capability in capabilities {
            // An old kernel does without.
            let _ = config.add_capabilities(capability);
        }
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.get(parent).by_name.get(name) {
            Some(ino) => reply.entry(&TTL, &self.get(*ino).attr, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &self.get(ino).attr);
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH);
    }

    #[rustfmt::skip]
    fn read(
        &self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, size: u32, _: OpenFlags, _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let data = &self.get(ino).data;
        let start = data.len().min(offset as usize);
        reply.data(&data[start..data.len().min(start + size as usize)]);
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        for (next, name, attr) in self.list(ino, offset) {
            if reply.add(attr.ino, next, attr.kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn readdirplus(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectoryPlus) {
        for (next, name, attr) in self.list(ino, offset) {
            if reply.add(attr.ino, next, name, &TTL, attr, Generation(0)) {
                break;
            }
        }
        reply.ok();
    }

    /// The kernel remembers this answer.
    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, reply: ReplyXattr) {
        reply.error(Errno::EOPNOTSUPP);
    }
}
