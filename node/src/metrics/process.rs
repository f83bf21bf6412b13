//! What the system says of this process, under the names that every Prometheus exporter uses. Linux; elsewhere nothing is told.

use super::names;
use super::text::Family;

/// Clock ticks a second in `/proc`: fixed by the kernel's interface to user space.
const TICKS: f64 = 100.0;

/// All that can be read now.
pub fn families() -> Vec<Family> {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program, in parentheses, may hold anything.
    let fields: Vec<f64> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().map(|field| field.parse().unwrap_or(f64::NAN)).collect())
        .unwrap_or_default();
    // Counted from the third field of proc(5).
    let field = |number: usize| fields.get(number - 3).copied().filter(|value| value.is_finite());
    let cpu = field(14).zip(field(15)).map(|(user, system)| (user + system) / TICKS);
    let started = field(22).zip(boot_time()).map(|(ticks, boot)| boot + ticks / TICKS);
    let values = [
        (names::PROCESS_CPU, cpu),
        (names::PROCESS_MEMORY, resident()),
        (names::PROCESS_FILES, open_files()),
        (names::PROCESS_MAX_FILES, max_files()),
        (names::PROCESS_START, started),
    ];
    values.into_iter().filter_map(|(name, value)| Some(Family::plain(name, value?))).collect()
}

fn resident() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024.0)
}

fn open_files() -> Option<f64> {
    // One of them is the folder that is being read.
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64)
}

fn max_files() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn boot_time() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_files_and_a_start_in_the_past() {
        let mut text = String::new();
        families().iter().for_each(|family| family.render(&mut text));
        let value = |name: &str| -> f64 {
            text.lines().find_map(|line| line.strip_prefix(&format!("{name} "))).unwrap().parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 100_000.0);
        assert!(value("process_open_fds") >= 3.0 && value("process_max_fds") >= value("process_open_fds"));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        let age = now - value("process_start_time_seconds");
        assert!((-2.0..86_400.0).contains(&age), "{age} s old");
        assert!(value("process_cpu_seconds_total") < 86_400.0);
    }
}
