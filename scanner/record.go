package scanner

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"slices"
	"time"

	"yaosu/schema"
)

// A record of a segment is one event:
//
//	 0  mark, four bytes that no text in UTF-8 holds
//	 4  length of the text
//	 8  when it was stored, milliseconds since 1970
//	16  CRC-32C of all that follows the mark, itself left out
//	20  text: region, blank, org, blank, the event as it was given
//
// Before an event that was refused stand a zero byte and the refusal as a line of
// JSON. Numbers are little-endian.
const headerBytes = 20

const mark = "\xf5YS1"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// record is what a segment holds of an event. Its slices are those of the buffer
// it was read from.
type record struct {
	region, org string
	event       []byte
	stored      time.Time
	refusal     *schema.Refusal // nil: a good one
}

// appendRecord appends the record of an event to b.
func appendRecord(b []byte, region, org string, event []byte, stored time.Time) []byte {
	start := len(b)
	b = append(b, mark...)
	b = binary.LittleEndian.AppendUint32(b, uint32(recordBytes(region, org, event)-headerBytes))
	b = binary.LittleEndian.AppendUint64(b, uint64(stored.UnixMilli()))
	b = append(b, 0, 0, 0, 0)
	b = append(b, region...)
	b = append(b, ' ')
	b = append(b, org...)
	b = append(b, ' ')
	b = append(b, event...)
	binary.LittleEndian.PutUint32(b[start+16:], checksum(b[start:]))
	return b
}

func recordBytes(region, org string, event []byte) int {
	return headerBytes + len(region) + 1 + len(org) + 1 + len(event)
}

// checksum is that of the record b.
func checksum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[4:16], castagnoli), castagnoli, b[headerBytes:])
}

// parseRecord reads the record at the beginning of b and returns its size; 0 when
// there is no whole one.
func parseRecord(b []byte) (record, int) {
	if len(b) < headerBytes || string(b[:4]) != mark {
		return record{}, 0
	}
	length := int(binary.LittleEndian.Uint32(b[4:]))
	if length > len(b)-headerBytes {
		return record{}, 0
	}
	b = b[:headerBytes+length]
	if checksum(b) != binary.LittleEndian.Uint32(b[16:]) {
		return record{}, 0
	}
	region, rest, _ := bytes.Cut(b[headerBytes:], []byte{' '})
	org, event, whole := bytes.Cut(rest, []byte{' '})
	if !whole {
		return record{}, 0
	}
	r := record{region: string(region), org: string(org), event: event, stored: storedAt(b)}
	if len(event) > 0 && event[0] == 0 {
		why, raw, _ := bytes.Cut(event[1:], []byte{'\n'})
		r.event, r.refusal = raw, &schema.Refusal{}
		if json.Unmarshal(why, r.refusal) != nil {
			return record{}, 0
		}
	}
	return r, len(b)
}

// refusedEvent is how a refused event stands in a record.
func refusedEvent(raw []byte, why schema.Refusal) ([]byte, error) {
	line, err := json.Marshal(why)
	if err != nil {
		return nil, err
	}
	return slices.Concat([]byte{0}, line, []byte{'\n'}, raw), nil
}

func storedAt(b []byte) time.Time { return time.UnixMilli(int64(binary.LittleEndian.Uint64(b[8:]))) }

// nextRecord finds the first whole record of b. skipped bytes before it are none:
// they were being written when the power went, or the disk spoilt them. size is 0
// when b holds no record any more.
func nextRecord(b []byte) (r record, skipped, size int) {
	for skipped < len(b) {
		if r, size = parseRecord(b[skipped:]); size > 0 {
			return r, skipped, size
		}
		// One spoilt record must not hide those behind it.
		next := bytes.Index(b[skipped+1:], []byte(mark))
		if next < 0 {
			break
		}
		skipped += 1 + next
	}
	return record{}, len(b), 0
}

// place is where a record begins, or where the next one will.
type place struct {
	segment uint64
	offset  int64
}

// The file that says how far the spool is done is one line with a checksum.
const placeFormat = "%d %d %08x\n"

func (p place) encode() []byte {
	sum := crc32.Checksum(fmt.Appendf(nil, "%d %d", p.segment, p.offset), castagnoli)
	return fmt.Appendf(nil, placeFormat, p.segment, p.offset, sum)
}

// decodePlace tells false for anything that encode did not write.
func decodePlace(b []byte) (place, bool) {
	var p place
	var sum uint32
	if _, err := fmt.Sscanf(string(b), placeFormat, &p.segment, &p.offset, &sum); err != nil {
		return place{}, false
	}
	if !bytes.Equal(b, p.encode()) {
		return place{}, false
	}
	return p, true
}
