// Package packed keeps a table of keys and values in a few thousand byte blocks instead of a few million
// objects: the memory is less than or close to the bytes stored, and the garbage collector has next to nothing to trace.
//
// A Table is immutable: readers hold one and see it for as long as they like, and a snapshot is a copied
// pointer. An Editor makes the next version by copying the leaves that it touches and the nodes above
// them; an Assembler makes a table of ready blocks, which is how bulk loads and snapshots arrive.
//
// # Block
//
// A block is what is written and sent of a table: entries sorted by key, no key twice, at least one.
//
//	count    uint16        number of entries, little endian
//	offsets  count × uint16 or uint32
//	entries  count × (key length uvarint, value length uvarint, key, value)
//
// Offsets count from the start of the block, and are 4 bytes wide in a block of more than 65535 bytes,
// which only a few large values make. Lengths are encoded in the fewest bytes and entries follow each
// other without a gap, so that equal entries are equal bytes: the digest of a table is the sum, modulo
// 2^128, of the XXH3-128 hashes of its encoded entries, and does not depend on how they fell into blocks.
//
// # Leaf
//
// A block becomes a leaf of the tree, which is made again from what is read and never written. In it what all keys begin with
// and what they end with is there once: names in order have much in common, and addresses of one domain end alike.
//
// # Lookup
//
// In a large table nearly all of a lookup is waiting for memory, so it looks at few places: inner nodes keep the bytes in which
// their keys differ side by side, and a leaf begins with a byte for each entry, made of the hash of its key.
package packed
