-- Every statement of the SQLite journal, by name. The parts of listings end in `_part` and are put together in
-- sqlite_listing.py.

-- name: put_pin
INSERT OR IGNORE INTO pins (definition, version, participants) VALUES (?, ?, ?);

-- Where a tombstone has the id or the uid no row is made, and so the saga's events find no place.
-- name: create_saga
INSERT INTO sagas (
    saga_id, uid, pin, parent_saga_id, labels, create_time_ns,
    state, start_time_ns, end_time_ns, deadline_ns, needs_attention, paused, overdue, failure
)
SELECT *
  FROM (
    SELECT
        ? AS saga_id, ? AS uid, (SELECT pin FROM pins WHERE definition = ? AND version = ? AND participants = ?), ?, ?, ?,
        ?, ?, ?, ?, ?, ?, ?, ?
  ) AS given
 WHERE NOT EXISTS (SELECT 1 FROM tombstones WHERE tombstones.saga_id = given.saga_id)
   AND NOT EXISTS (SELECT 1 FROM tombstones WHERE tombstones.uid = given.uid);

-- name: update_saga
UPDATE sagas
   SET state = ?, start_time_ns = ?, end_time_ns = ?, deadline_ns = ?,
       needs_attention = ?, paused = ?, overdue = ?, failure = ?
 WHERE saga_id = ?;

-- name: put_label
INSERT INTO labels (name, value, create_time_ns, saga)
SELECT ?, ?, create_time_ns, saga FROM sagas WHERE saga_id = ?;

-- An event goes in only right behind the saga's last one; otherwise no row changes.
-- name: append_event
INSERT INTO events (saga, sequence, body)
SELECT saga, ?, ? FROM sagas
 WHERE saga_id = ?
   AND ? = (SELECT coalesce(max(sequence), 0) FROM events WHERE events.saga = sagas.saga);

-- name: position
SELECT (SELECT coalesce(max(sequence), 0) FROM events WHERE events.saga = sagas.saga)
  FROM sagas WHERE saga_id = ?;

-- name: is_taken
SELECT 1 FROM sagas WHERE saga_id = ? OR uid = ?
UNION ALL
SELECT 1 FROM tombstones WHERE saga_id = ? OR uid = ?;

-- name: read_events
SELECT sequence, body FROM events
 WHERE saga = (SELECT saga FROM sagas WHERE saga_id = ?) AND sequence > ?
 ORDER BY sequence LIMIT ?;

-- name: quarantine
UPDATE sagas
   SET state = CASE WHEN state IN (4, 5) THEN state ELSE 6 END, needs_attention = 1, failure = ?
 WHERE saga_id = ?;

-- The saga must be exactly the one that was looked at: it may have moved on since. FAILED is no end.
-- name: leave_tombstone
INSERT INTO tombstones (saga_id, uid, state, end_time_ns, request_digest, retire_time_ns)
SELECT saga_id, uid, state, end_time_ns, ?, ? FROM sagas
 WHERE saga_id = ? AND uid = ? AND state = ? AND end_time_ns = ? AND state IN (4, 5);

-- name: delete_labels
DELETE FROM labels
 WHERE (name, value, create_time_ns, saga) IN (
    SELECT json_each.key, json_each.value, sagas.create_time_ns, sagas.saga
      FROM sagas CROSS JOIN json_each(iif(json_valid(sagas.labels), sagas.labels, '{}')) WHERE sagas.saga_id = ?
 );

-- name: delete_events
DELETE FROM events WHERE saga = (SELECT saga FROM sagas WHERE saga_id = ?);

-- name: delete_saga
DELETE FROM sagas WHERE saga_id = ?;

-- name: find_tombstone
SELECT saga_id, uid, state, request_digest, end_time_ns, retire_time_ns FROM tombstones WHERE saga_id = ?;

-- name: count_tombstones
SELECT count(*) FROM tombstones;

-- name: drop_tombstones
DELETE FROM tombstones
 WHERE rowid IN (SELECT rowid FROM tombstones WHERE retire_time_ns < ? ORDER BY retire_time_ns LIMIT ?);

-- name: columns_part
SELECT sagas.saga, sagas.saga_id, sagas.uid, coalesce(pins.definition, '') AS definition,
       coalesce(pins.version, 0) AS version, coalesce(pins.participants, '[]') AS participants, sagas.state,
       sagas.create_time_ns, sagas.start_time_ns, sagas.end_time_ns, sagas.deadline_ns,
       sagas.needs_attention, sagas.paused, sagas.overdue, sagas.failure, sagas.parent_saga_id, sagas.labels,
       (SELECT coalesce(max(sequence), 0) FROM events WHERE events.saga = sagas.saga) AS last_sequence

-- The joins are CROSS or LEFT to fix their order: the table that the page is walked along comes first. LEFT also shows a
-- saga whose pin is lost: it is damaged, but it must not vanish.
-- name: find_part
  FROM sagas LEFT JOIN pins USING (pin) WHERE sagas.saga_id = ?

-- name: newest_part
  FROM sagas INDEXED BY sagas_newest LEFT JOIN pins USING (pin) WHERE 1

-- name: unfinished_part
  FROM sagas INDEXED BY sagas_unfinished LEFT JOIN pins USING (pin) WHERE sagas.state NOT IN (4, 5)

-- name: ended_part
  FROM sagas INDEXED BY sagas_ended LEFT JOIN pins USING (pin) WHERE sagas.state IN (4, 5) AND sagas.end_time_ns < ?

-- name: compensated_part
  FROM sagas INDEXED BY sagas_compensated LEFT JOIN pins USING (pin) WHERE sagas.state = 5

-- name: attention_part
  FROM sagas INDEXED BY sagas_attention LEFT JOIN pins USING (pin) WHERE sagas.needs_attention = 1

-- name: label_part
  FROM labels AS walked CROSS JOIN sagas USING (saga) LEFT JOIN pins USING (pin)
 WHERE walked.name = ? AND walked.value = ?

-- name: has_label_part
EXISTS (
    SELECT 1 FROM labels
     WHERE name = ? AND value = ? AND labels.create_time_ns = sagas.create_time_ns AND labels.saga = sagas.saga
)

-- name: has_participant_part
sagas.pin IN (SELECT pin FROM pins AS used, json_each(iif(json_valid(used.participants), used.participants, '[]')) WHERE json_each.value = ?)

-- The first condition is quick and lets few rows through to the second, which calls back into the program.
-- name: failure_mentions_part
instr(sagas.failure, CAST(? AS BLOB)) AND failure_mentions(sagas.failure, ?)

-- name: count_label
SELECT count(*) FROM (SELECT 1 FROM labels WHERE name = ? AND value = ? LIMIT ?);

-- name: count_unfinished
SELECT definition, version, count(*)
  FROM sagas INDEXED BY sagas_unfinished CROSS JOIN pins USING (pin)
 WHERE state NOT IN (4, 5)
 GROUP BY definition, version;

-- name: put_descriptors
INSERT OR IGNORE INTO descriptors (digest, content) VALUES (?, ?);

-- name: find_descriptors
SELECT content FROM descriptors WHERE digest = ?;

-- name: put_definition
INSERT INTO definitions (name, version, content, digest, descriptors_digest, create_time_ns, deprecated)
SELECT ?, coalesce(max(version), 0) + 1, ?, ?, ?, ?, 0 FROM definitions WHERE name = ?;

-- name: adopt_definition
INSERT INTO definitions (name, version, content, digest, descriptors_digest, create_time_ns, deprecated)
VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: find_definition_by_digest
SELECT name, version, content, digest, descriptors_digest, create_time_ns, deprecated
  FROM definitions WHERE name = ? AND digest = ?;

-- name: find_definition
SELECT name, version, content, digest, descriptors_digest, create_time_ns, deprecated
  FROM definitions WHERE name = ? AND version = ?;

-- name: newest_definition
SELECT name, version, content, digest, descriptors_digest, create_time_ns, deprecated
  FROM definitions
 WHERE name = ?
   AND version = (SELECT version FROM definitions WHERE name = ? ORDER BY deprecated, version DESC LIMIT 1);

-- name: list_definitions
SELECT name, version, content, digest, descriptors_digest, create_time_ns, deprecated
  FROM definitions
 WHERE name > ? OR (name = ? AND version < ?)
 ORDER BY name, version DESC LIMIT ?;

-- name: list_versions
SELECT name, version, content, digest, descriptors_digest, create_time_ns, deprecated
  FROM definitions WHERE name = ? AND version < ? ORDER BY version DESC LIMIT ?;

-- name: deprecate_definition
UPDATE definitions SET deprecated = 1 WHERE name = ? AND version = ?;

-- As large as two pages, so that a file that may not grow refuses it.
-- name: probe_write
INSERT INTO probes (body) VALUES (zeroblob(8192));

-- name: probe_take_back
DELETE FROM probes;
