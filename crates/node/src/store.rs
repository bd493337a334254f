//! The embedded store of a home: a few small values by name, in one crash-safe file.
//!
//! Every write is one durable two-phase commit, so that neither a crash nor a power cut leaves half
//! of it. Callers on the async side go through `spawn_blocking`.

use std::path::Path;

use redb::{Database, ReadableDatabase, TableDefinition};

const TABLE: TableDefinition<&str, &[u8]> = TableDefinition::new("cloak");

/// The store could not do it: the disk is full, say, or the file is damaged.
#[derive(Debug, thiserror::Error)]
#[error("the store failed: {0}")]
pub struct StoreError(#[from] redb::Error);

/// See the module.
pub(crate) struct Store(Database);

impl Store {
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self(Database::create(path).map_err(redb::Error::from)?))
    }

    /// The value under `key`.
    pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.try_get(key).map_err(StoreError)
    }

    /// Puts every pair, or none.
    pub(crate) fn put(&self, pairs: &[(&str, &[u8])]) -> Result<(), StoreError> {
        self.try_put(pairs).map_err(StoreError)
    }

    fn try_get(&self, key: &str) -> Result<Option<Vec<u8>>, redb::Error> {
        let transaction = self.0.begin_read()?;
        let table = match transaction.open_table(TABLE) {
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            table => table?,
        };
        Ok(table.get(key)?.map(|value| value.value().to_vec()))
    }

    fn try_put(&self, pairs: &[(&str, &[u8])]) -> Result<(), redb::Error> {
        let mut transaction = self.0.begin_write()?;
        transaction.set_two_phase_commit(true);
        {
            let mut table = transaction.open_table(TABLE)?;
            for (key, value) in pairs {
                table.insert(*key, *value)?;
            }
        }
        Ok(transaction.commit()?)
    }
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
