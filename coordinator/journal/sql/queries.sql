-- Every statement of the SQLite journal, by name. The parts of listings end in `_part` and are put together in
-- sqlite_listing.py.

-- name: put_pin
INSERT OR IGNORE INTO pins (definition, version, participants) VALUES (?, ?, ?);

-- Where a tombstone has the id or the uid no row is made, and so the saga's events find no place.
-- name: create_saga
INSERT INTO sagas (
    saga_id, uid, pin, parent_saga_id, root_saga_id, exclusive_keys, labels, create_time_ns,
    state, start_time_ns, end_time_ns, deadline_ns, needs_attention, paused, overdue, failure
)
SELECT *
  FROM (
    SELECT
        ? AS saga_id, ? AS uid, (SELECT pin FROM pins WHERE definition = ? AND version = ? AND participants = ?), ?, ?, ?, ?, ?,
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

-- name: put_key
INSERT INTO exclusive_keys (key, create_time_ns, saga)
SELECT ?, create_time_ns, saga FROM sagas WHERE saga_id = ?;

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

-- The saga must be exactly the one that was looked at: it may have moved on since. FAILED is no end. While its root has
-- not ended it may yet have to be compensated.
-- name: leave_tombstone
INSERT INTO tombstones (saga_id, uid, state, end_time_ns, request_digest, retire_time_ns)
SELECT saga_id, uid, state, end_time_ns, ?, ? FROM sagas
 WHERE saga_id = ? AND uid = ? AND state = ? AND end_time_ns = ? AND state IN (4, 5)
   AND NOT EXISTS (
    SELECT 1 FROM sagas AS root WHERE root.saga_id = sagas.root_saga_id AND root.state NOT IN (4, 5)
   );

-- name: delete_labels
DELETE FROM labels
 WHERE (name, value, create_time_ns, saga) IN (
    SELECT json_each.key, json_each.value, sagas.create_time_ns, sagas.saga
      FROM sagas CROSS JOIN json_each(iif(json_valid(sagas.labels), sagas.labels, '{}')) WHERE sagas.saga_id = ?
 );

-- name: delete_keys
DELETE FROM exclusive_keys
 WHERE (key, create_time_ns, saga) IN (
    SELECT json_each.value, sagas.create_time_ns, sagas.saga
      FROM sagas CROSS JOIN json_each(iif(json_valid(sagas.exclusive_keys), sagas.exclusive_keys, '[]'))
     WHERE sagas.saga_id = ?
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
       sagas.needs_attention, sagas.paused, sagas.overdue, sagas.failure, sagas.parent_saga_id, sagas.root_saga_id,
       sagas.labels, coalesce(sagas.exclusive_keys, '[]') AS exclusive_keys,
       (SELECT coalesce(max(sequence), 0) FROM events WHERE events.saga = sagas.saga) AS last_sequence

-- The joins are CROSS or LEFT to fix their order: the table that the page is walked along comes first. LEFT also shows a
-- saga whose pin is lost: it is damaged, but it must not vanish.
-- name: find_part
  FROM sagas LEFT JOIN pins USING (pin) WHERE sagas.saga_id = ?

-- While its root has not ended, a saga that has ended may yet have to be compensated.
-- name: ended_part
  FROM sagas INDEXED BY sagas_ended LEFT JOIN pins USING (pin)
 WHERE sagas.state IN (4, 5) AND sagas.end_time_ns < ?
   AND NOT EXISTS (
    SELECT 1 FROM sagas AS root WHERE root.saga_id = sagas.root_saga_id AND root.state NOT IN (4, 5)
   )

-- name: keyed_unfinished_part
  FROM sagas INDEXED BY sagas_unfinished LEFT JOIN pins USING (pin)
 WHERE sagas.state NOT IN (4, 5) AND sagas.exclusive_keys IS NOT NULL

-- From the unfinished roots down, so that the children of all those that have ended are not looked at. Each page looks at
-- every unfinished saga once: this is for a coordinator's start.
-- name: keyed_below_part
  FROM sagas AS root INDEXED BY sagas_unfinished
 CROSS JOIN sagas INDEXED BY sagas_keyed_below ON sagas.root_saga_id = root.saga_id
  LEFT JOIN pins ON pins.pin = sagas.pin
 WHERE root.state NOT IN (4, 5) AND sagas.state IN (4, 5)
   AND sagas.root_saga_id <> '' AND sagas.exclusive_keys IS NOT NULL

-- The stretches that lists are walked along, each in order of creation. Only `newest` is as long as the journal: it is taken
-- where a filter names nothing that has an index, such as COMPLETED or marks that are absent, which nearly all sagas meet.
-- name: newest_part
  FROM sagas INDEXED BY sagas_newest LEFT JOIN pins USING (pin) WHERE 1

-- name: unfinished_part
  FROM sagas INDEXED BY sagas_unfinished LEFT JOIN pins USING (pin) WHERE sagas.state NOT IN (4, 5)

-- name: state_part
  FROM sagas INDEXED BY sagas_by_state LEFT JOIN pins USING (pin)
 WHERE sagas.state NOT IN (2, 4) AND sagas.state = ?

-- name: attention_part
  FROM sagas INDEXED BY sagas_attention LEFT JOIN pins USING (pin) WHERE sagas.needs_attention = 1

-- name: paused_part
  FROM sagas INDEXED BY sagas_paused LEFT JOIN pins USING (pin) WHERE sagas.paused = 1

-- name: overdue_part
  FROM sagas INDEXED BY sagas_overdue LEFT JOIN pins USING (pin) WHERE sagas.overdue = 1

-- name: failing_part
  FROM sagas INDEXED BY sagas_failing LEFT JOIN pins USING (pin) WHERE sagas.failure IS NOT NULL

-- name: parent_part
  FROM sagas INDEXED BY sagas_by_parent LEFT JOIN pins USING (pin)
 WHERE sagas.parent_saga_id <> '' AND sagas.parent_saga_id = ?

-- name: pin_part
  FROM sagas INDEXED BY sagas_by_pin LEFT JOIN pins USING (pin) WHERE sagas.pin = ?

-- name: label_part
  FROM labels AS walked CROSS JOIN sagas USING (saga) LEFT JOIN pins USING (pin)
 WHERE walked.name = ? AND walked.value = ?

-- name: key_part
  FROM exclusive_keys AS walked CROSS JOIN sagas USING (saga) LEFT JOIN pins USING (pin)
 WHERE walked.key = ?

-- Counting needs nothing of the sagas: of the last two stretches it walks the first table only.
-- name: count_part
SELECT count(*) FROM

-- name: counted_part
SELECT 1

-- name: label_count_part
  FROM labels AS walked WHERE walked.name = ? AND walked.value = ?

-- name: key_count_part
  FROM exclusive_keys AS walked WHERE walked.key = ?

-- What is asked of each saga on the way.
-- name: has_labels_part
NOT EXISTS (
    SELECT 1 FROM json_each(?) AS wanted
     WHERE NOT EXISTS (
        SELECT 1 FROM labels
         WHERE labels.name = wanted.key AND labels.value = wanted.value
           AND labels.create_time_ns = sagas.create_time_ns AND labels.saga = sagas.saga
     )
)

-- name: has_key_part
EXISTS (
    SELECT 1 FROM exclusive_keys AS kept
     WHERE kept.key = ? AND kept.create_time_ns = sagas.create_time_ns AND kept.saga = sagas.saga
)

-- name: has_pin_part
sagas.pin IN (SELECT value FROM json_each(?))

-- No index knows words: every saga on the way that has a failure is looked at. The first condition is quick and lets few
-- rows through to the second, which calls back into the program.
-- name: failure_mentions_part
instr(sagas.failure, CAST(? AS BLOB)) AND failure_mentions(sagas.failure, ?)

-- Definition, version and participants are said by a saga's pin, and there are few pins. Empty and 0: any.
-- name: find_pins
SELECT pin FROM pins
 WHERE ? IN ('', definition) AND ? IN (0, version)
   AND (? = '' OR ? IN (SELECT value FROM json_each(iif(json_valid(participants), participants, '[]'))))
 ORDER BY pin;

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
