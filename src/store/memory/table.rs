//! Rows in memory whose changes can be taken back.

use std::collections::BTreeMap;

/// Rows by their key, in its order.
#[derive(Debug)]
pub(super) struct UndoTable<K, R> {
    rows: BTreeMap<K, R>,
    /// What was there before each change since the last commit.
    undo: Vec<(K, Option<R>)>,
}

impl<K, R> Default for UndoTable<K, R> {
    fn default() -> UndoTable<K, R> {
        UndoTable {
            rows: BTreeMap::new(),
            undo: Vec::new(),
        }
    }
}

impl<K: Ord + Clone, R: Clone> UndoTable<K, R> {
    pub(super) fn get(&self, key: &K) -> Option<&R> {
        self.rows.get(key)
    }

    pub(super) fn rows(&self) -> impl DoubleEndedIterator<Item = &R> {
        self.rows.values()
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&K, &R)> {
        self.rows.iter()
    }

    pub(super) fn put(&mut self, key: K, row: R) {
        let before = self.rows.insert(key.clone(), row);
        self.undo.push((key, before));
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<R> {
        let before = self.rows.remove(key)?;
        self.undo.push((key.clone(), Some(before.clone())));
        Some(before)
    }

    /// Changes the row of `key` if it is there and `is_meant`; gives it as it is then.
    pub(super) fn change(
        &mut self,
        key: &K,
        is_meant: impl FnOnce(&R) -> bool,
        change: impl FnOnce(&mut R),
    ) -> Option<&R> {
        let row = self.rows.get_mut(key)?;
        if !is_meant(row) {
            return None;
        }
        self.undo.push((key.clone(), Some(row.clone())));
        change(row);
        Some(row)
    }

    /// Changes all rows that are meant; gives their keys.
    pub(super) fn change_all(
        &mut self,
        is_meant: impl Fn(&R) -> bool,
        change: impl Fn(&mut R),
    ) -> Vec<K> {
        let mut changed = Vec::new();
        for (key, row) in self.rows.iter_mut().filter(|(_, row)| is_meant(row)) {
            self.undo.push((key.clone(), Some(row.clone())));
            change(row);
            changed.push(key.clone());
        }
        changed
    }

    pub(super) fn commit(&mut self) {
        self.undo.clear();
    }

    pub(super) fn roll_back(&mut self) {
        for (key, before) in self.undo.drain(..).rev() {
            match before {
                Some(row) => self.rows.insert(key, row),
                None => self.rows.remove(&key),
            };
        }
    }
}
