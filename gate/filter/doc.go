// Package filter makes, hands on and reads a compact filter of the codes that have an
// effective sale, for agents beside tills that are without network.
//
// Its promise: a code that was settled at the moment the filter speaks of is found in
// it. One that was not is found all the same four times in a thousand, and so is one
// whose sale was undone since its part was made. A part that is damaged says neither:
// each is checked by its checksum whenever it is read.
//
// # What it is
//
// A manifest and parts. A part is a binary fuse filter over the codes of one range,
// hashed with a seed of its own, so what two parts or two versions of one have in
// common says nothing. The lowest layer holds nearly all codes, 8 bits a code; above
// it are small layers, of 16 bits, with what was settled since. A Builder makes of the
// index of a check the next version: it goes through all codes once, in order, with a
// part of them in memory, and rests three times as long as it works. A part
// is made anew only when a thirty-second of it has changed; the rest goes into a layer, and a
// layer takes in the ones above it that are not much smaller. So who follows fetches little
// more than what is new. A part's name is the checksum of its bytes, so a part never
// changes and may be kept by anybody.
//
// # How it gets to an agent
//
//  1. A Fetcher asks for the manifest, and ends there when it has it.
//  2. It fetches the parts it lacks, one after the other, when the till is quiet and no
//     faster than it is told. A part that was broken off is gone on with, one that does
//     not fit its name is thrown away. When the gate has a newer version meanwhile, it
//     asks for that manifest, and what it fetched serves as far as it is the same.
//  3. With all parts there it puts the manifest in the place of the old one. If we die
//     before, the old one still stands, and the parts are there for the next time.
//
// Nothing is synced: after a power cut a part may be torn, and is fetched again.
//
// What it does not do: it knows no event, no shop and no person, and it decides nothing.
package filter
