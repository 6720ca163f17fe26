package schema

import (
	"regexp"
	"strings"
	"unicode"
)

// Refusal says why one event cannot be taken in. Code is for programs (header
// Reject-Code, column rejects.code), Field names the field at fault (empty for
// the whole event), Reason is an English sentence for a programmer; those of
// package nhsa have the names of the interface and are Chinese, as its vendors
// read them. A Refusal never quotes a person number.
type Refusal struct {
	Code   string
	Field  string
	Reason string
}

// Reason codes of a Refusal.
const (
	RefuseEncoding  = "encoding"    // not UTF-8
	RefuseJSON      = "json"        // not a JSON object, or cut off, or a field twice
	RefuseMissing   = "missing"     // a required field is absent
	RefuseType      = "type"        // wrong JSON type
	RefuseFormat    = "format"      // not the form the field must have
	RefuseLength    = "length"      // too long
	RefuseRange     = "range"       // a number outside its range
	RefuseValue     = "value"       // not one of the listed values
	RefuseCodes     = "codes"       // too many codes, none where one is needed, some on a void
	RefuseMessage   = "message"     // the whole message cannot be opened (compression, Arrow, empty)
	RefuseTable     = "table"       // the engine refuses the row
	RefuseTransport = "transport"   // a content type nobody here reads
	RefuseForeign   = "foreign_org" // its org or region is not the sender's
)

func (r *Refusal) Error() string {
	if r.Field == "" {
		return r.Code + ": " + r.Reason
	}
	return r.Code + ": " + r.Field + ": " + r.Reason
}

// mostTold is how many characters of a reason are kept that somebody else gave.
const mostTold = 500

var fieldForm = regexp.MustCompile(`^[A-Za-z_]{1,40}$`)

// ToldRefusal is what the headers of a ContentRefused message say, nil when their code is
// none of ours. Whoever may publish may write them: so a field is a name, and a
// reason is of bounded length and harmless for a terminal.
func ToldRefusal(code, field, reason string) *Refusal {
	switch code {
	case RefuseEncoding, RefuseJSON, RefuseMissing, RefuseType, RefuseFormat, RefuseLength, RefuseRange,
		RefuseValue, RefuseCodes, RefuseMessage, RefuseTable, RefuseTransport, RefuseForeign:
	default:
		return nil
	}
	if !fieldForm.MatchString(field) {
		field = ""
	}
	runes := []rune(strings.ToValidUTF8(reason, "·"))
	reason = strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) {
			return '·'
		}
		return r
	}, string(runes[:min(len(runes), mostTold)]))
	return &Refusal{Code: code, Field: field, Reason: reason}
}
