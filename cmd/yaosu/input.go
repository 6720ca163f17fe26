package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"yaosu/schema"
)

// maxLine is in bytes; the rest of a longer line is passed over unread.
const maxLine = 8 << 20

// A line is one event as a file holds it.
type line struct {
	number  int
	json    []byte          // owned by the receiver until it returns; nil when there is nothing that could be sent
	refusal *schema.Refusal // what reading already found wrong
}

// input is one file to publish.
type input struct {
	path    string // "-" is standard input
	stdin   io.Reader
	mapping *schema.Mapping // of a CSV file, else nil
}

func (in input) name() string {
	if in.path == "-" {
		return "standard input"
	}
	return in.path
}

// read hands each event of the file to yield, through gzip or Zstandard where
// the first bytes say so. count gets the bytes read, as they lie on the disk.
func (in input) read(count io.Writer, yield func(line) error) error {
	raw := in.stdin
	if in.path != "-" {
		f, err := os.Open(in.path)
		if err != nil {
			return err
		}
		defer f.Close()
		raw = f
	}
	r, err := decompress(bufio.NewReaderSize(io.TeeReader(raw, count), 256<<10))
	if err != nil {
		return fmt.Errorf("read %s: %w", in.name(), err)
	}
	defer r.Close()
	if in.mapping != nil {
		err = schema.ReadCSV(r, *in.mapping, func(row schema.Row) error {
			return yieldError{yield(csvLine(row))}.orNil()
		})
	} else {
		err = readLines(r, func(l line) error { return yieldError{yield(l)}.orNil() })
	}
	var from yieldError
	switch {
	case errors.As(err, &from):
		return from.error
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("read %s: the file is cut off; what came before the cut was read", in.name())
	case err != nil:
		return fmt.Errorf("read %s: %w", in.name(), err)
	}
	return nil
}

// yieldError tells an error of the receiver from one of the file.
type yieldError struct{ error }

func (e yieldError) orNil() error {
	if e.error == nil {
		return nil
	}
	return e
}

// csvLine is the event of one row. A row that was refused and yet makes a valid
// event (a cell too many shifts the columns) is not to be sent: the ingester
// would take it.
func csvLine(row schema.Row) line {
	l := line{number: row.Line, json: row.JSON, refusal: row.Refusal}
	if row.Refusal != nil && row.JSON != nil && new(schema.Scan).DecodeJSON(row.JSON) == nil {
		l.json = nil
	}
	return l
}

// decompress looks at the first bytes, not at the name.
func decompress(r *bufio.Reader) (io.ReadCloser, error) {
	head, err := r.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1F, 0x8B}):
		return gzip.NewReader(r)
	case bytes.HasPrefix(head, []byte{0x28, 0xB5, 0x2F, 0xFD}):
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	}
	return io.NopCloser(r), nil
}

// readLines yields the lines that are not blank.
func readLines(r io.Reader, yield func(line) error) error {
	in := bufio.NewReaderSize(r, 256<<10)
	var long []byte
	for number := 1; ; number++ {
		text, err := in.ReadSlice('\n')
		size := len(text)
		if errors.Is(err, bufio.ErrBufferFull) {
			long = append(long[:0], text...)
			for errors.Is(err, bufio.ErrBufferFull) {
				text, err = in.ReadSlice('\n')
				if size += len(text); size <= maxLine {
					long = append(long, text...)
				}
			}
			text = long
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if number == 1 {
			text = bytes.TrimPrefix(text, []byte("\xEF\xBB\xBF"))
		}
		l := line{number: number, json: bytes.Trim(text, " \t\r\n")}
		if size > maxLine {
			l.json = nil
			l.refusal = &schema.Refusal{Code: schema.RefuseLength, Reason: fmt.Sprintf("the line is longer than %d bytes", maxLine)}
		}
		if len(l.json) > 0 || l.refusal != nil {
			if err := yield(l); err != nil {
				return err
			}
		}
		if err != nil {
			return nil
		}
	}
}
