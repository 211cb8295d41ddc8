//! Free memory and disk space of this machine.

use std::path::{Path, PathBuf};

use sysinfo::{Disks, System};

/// Bytes of memory that a process can still take: the system's available memory, or less if a container's limit is
/// lower.
pub fn free_memory() -> u64 {
    let mut system = System::new();
    system.refresh_memory();
    let of_container = system.cgroup_limits().map(|limits| limits.free_memory);
    of_container.map_or(system.available_memory(), |free| free.min(system.available_memory()))
}

/// Free bytes on the file system of `path`, which need not exist yet; `None` if unknown.
pub fn free_disk(path: &Path) -> Option<u64> {
    let folder = path
        .ancestors()
        .skip(1)
        .find(|folder| folder.is_dir())
        .unwrap_or(Path::new("."));
    let folder: PathBuf = std::fs::canonicalize(folder).ok()?;
    let disks = Disks::new_with_refreshed_list();
    let holding = disks
        .list()
        .iter()
        .filter(|disk| folder.starts_with(disk.mount_point()));
    let nearest = holding.max_by_key(|disk| disk.mount_point().components().count())?;
    Some(nearest.available_space())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_memory_and_disk() {
        assert!(free_memory() > 1 << 20);
        let folder = tempfile::tempdir().unwrap();
        if let Some(free) = free_disk(&folder.path().join("map.toml")) {
            assert!(free > 0);
        }
    }
}
