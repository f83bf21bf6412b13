//! The database of every design but the actor store: RocksDB with the options that the actor store gives its own.

use std::path::Path;

use rocksdb::{BlockBasedOptions, Cache, DB, DBCompressionType, DBRecoveryMode, Options};

const MIB: usize = 1 << 20;

/// A new database. Large values go to blob files, which is RocksDB at its best with them.
pub fn open(path: &Path) -> DB {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&Cache::new_lru_cache(64 * MIB));
    table.set_bloom_filter(10.0, false);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_format_version(5);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&table);
    options.set_compression_type(DBCompressionType::None);
    options.set_write_buffer_size(32 * MIB);
    options.set_max_write_buffer_number(4);
    options.set_db_write_buffer_size(128 * MIB);
    options.set_max_total_wal_size(256 << 20);
    options.set_max_background_jobs(2);
    options.set_max_open_files(512);
    options.set_bytes_per_sync(1 << 20);
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_avoid_unnecessary_blocking_io(true);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_enable_blob_files(true);
    options.set_min_blob_size(4 << 10);
    options.set_blob_file_size(256 << 20);
    options.set_blob_compression_type(DBCompressionType::None);
    options.set_enable_blob_gc(true);
    DB::open(&options, path).unwrap()
}

/// What the actor store's shutdown does: log on disk, memory tables in files.
pub fn flush(database: &DB) {
    database.flush_wal(true).unwrap();
    database.flush().unwrap();
}
