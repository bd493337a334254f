//! The embedded store of a home: a few small values by name, in one crash-safe file.
//!
//! Every write is one durable two-phase commit, so that neither a crash nor a power cut leaves half
//! of it. Callers on the async side go through `spawn_blocking`.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use redb::{Database, ReadableDatabase, TableDefinition};

use crate::sync::lock;

const TABLE: TableDefinition<&str, &[u8]> = TableDefinition::new("cloak");

/// The store could not do it: the disk is full, say, or the file is damaged.
#[derive(Debug, thiserror::Error)]
#[error("the store failed: {0}")]
pub struct StoreError(#[from] redb::Error);

/// See the module.
pub(crate) struct Store {
    path: PathBuf,
    /// Closed after a failure: the engine takes no more writes then, even when the disk has room
    /// again. The next use opens it anew, from the last commit.
    database: Mutex<Option<Database>>,
}

impl Store {
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let database = Database::create(path).map_err(redb::Error::from)?;
        Ok(Self { path: path.to_owned(), database: Mutex::new(Some(database)) })
    }

    /// The value under `key`.
    pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.with(|database| get(database, key))
    }

    /// Puts every pair, or none.
    pub(crate) fn put(&self, pairs: &[(&str, &[u8])]) -> Result<(), StoreError> {
        self.with(|database| put(database, pairs))
    }

    fn with<T>(
        &self,
        run: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let mut held = lock(&self.database);
        let database = match held.take() {
            Some(database) => database,
            None => Database::create(&self.path).map_err(redb::Error::from)?,
        };
        let value = run(&database)?;
        *held = Some(database);
        Ok(value)
    }
}

fn get(database: &Database, key: &str) -> Result<Option<Vec<u8>>, redb::Error> {
    let transaction = database.begin_read()?;
    let table = match transaction.open_table(TABLE) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        table => table?,
    };
    Ok(table.get(key)?.map(|value| value.value().to_vec()))
}

fn put(database: &Database, pairs: &[(&str, &[u8])]) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    {
        let mut table = transaction.open_table(TABLE)?;
        for (key, value) in pairs {
            table.insert(*key, *value)?;
        }
    }
    Ok(transaction.commit()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_reopening() {
        let dir = std::env::temp_dir().join(format!("cloak-store-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("store.redb");
        let store = Store::open(&path).unwrap();
        assert_eq!(store.get("a").unwrap(), None);
        store.put(&[("a", b"1"), ("b", b"2")]).unwrap();
        drop(store);
        let store = Store::open(&path).unwrap();
        assert_eq!(store.get("a").unwrap().as_deref(), Some(&b"1"[..]));
        assert_eq!(store.get("c").unwrap(), None);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
