//! The run's folder: `target/deadbeat/<id>/`, with the link `target/deadbeat/latest` to the last
//! one. It is made before anything runs, so that a bad path fails first.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Where run folders are made unless `--out` says otherwise.
const HOME: &str = "target/deadbeat";

/// The run's folder cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("create the run's folder {} failed\n(hint: name another one with `--out DIR`)", path.display())]
pub(super) struct OutError {
    path: PathBuf,
    source: io::Error,
}

/// Makes the folder.
pub(super) fn create(out: Option<&Path>) -> Result<PathBuf, OutError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| OutError { path, source }
    };
    if let Some(dir) = out {
        std::fs::create_dir_all(dir).map_err(failed(dir))?;
        return Ok(dir.to_owned());
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let id = format!("{}-{}", stamp(now), std::process::id());
    let dir = Path::new(HOME).join(&id);
    std::fs::create_dir_all(&dir).map_err(failed(&dir))?;
    let latest = Path::new(HOME).join("latest");
    link_latest(&id, &latest).map_err(failed(&latest))?;
    Ok(dir)
}

/// Replaces the link in one step, so that it always leads somewhere.
fn link_latest(id: &str, latest: &Path) -> io::Result<()> {
    let fresh = latest.with_file_name(format!("latest-{id}"));
    std::os::unix::fs::symlink(id, &fresh)?;
    std::fs::rename(&fresh, latest).inspect_err(|_| {
        // The error that counts is the rename's.
        let _ = std::fs::remove_file(&fresh);
    })
}

/// `YYYYMMDD-HHMMSS` in UTC.
fn stamp(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}")
}

/// Today as `YYYY-MM-DD` in UTC: what `review-by` is compared with.
pub(super) fn today() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (year, month, day) = civil(now.as_secs() / 86_400);
    format!("{year:04}-{month:02}-{day:02}")
}

/// The date of a day since 1970-01-01, in the proleptic Gregorian calendar. Years are counted
/// from March, so that the leap day is the last of its year (Hinnant, "chrono-compatible
/// low-level date algorithms", `civil_from_days`).
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(stamp(Duration::ZERO), "19700101-000000");
        assert_eq!(stamp(Duration::from_secs(1_709_210_096)), "20240229-123456");
        assert_eq!(stamp(Duration::from_secs(4_107_542_399)), "21000228-235959");
        assert_eq!(stamp(Duration::from_secs(4_107_542_400)), "21000301-000000");
    }

    #[test]
    fn the_link_leads_to_the_newest_run() {
        let home = tempfile::tempdir().unwrap();
        let latest = home.path().join("latest");
        for id in ["one", "two"] {
            link_latest(id, &latest).unwrap();
            assert_eq!(std::fs::read_link(&latest).unwrap(), Path::new(id));
        }
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_path_that_cannot_be_made_is_an_error_with_a_hint() {
        let error = create(Some(Path::new("/dev/null/run"))).unwrap_err();
        assert!(error.to_string().contains("--out"), "{error}");
    }
}
