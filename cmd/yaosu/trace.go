package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/urfave/cli/v3"

	"yaosu/detect/export"
	"yaosu/schema"
)

func traceCommand() *cli.Command {
	return &cli.Command{
		Name:      "trace",
		Usage:     "tells the life of a code, event by event, with the suspects it is in",
		ArgsUsage: "CODE",
		Description: "CODE is taken in every form a scanner reads it: 20 digits, a GS1 element string with or\n" +
			"without brackets and symbology prefix, a GS1 Digital Link, an MA code. A manufacturer's own\n" +
			"code is told apart by the drug it was billed as: give --drug, or see all drugs.\n" +
			"Persons are shown as pseudonyms.\n\n" +
			"Examples:\n" +
			"  yaosu trace 81234567890123456789\n" +
			"  yaosu trace '(01)06901234567892(21)A1B2C3' --format ndjson",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "drug", Usage: "catalogue code of the `DRUG` billed, for manufacturers' own codes"},
			&cli.StringFlag{Name: "format", Usage: "table or ndjson", Value: "table", Validator: oneOf("table", "ndjson")},
		},
		Action: traceAction,
	}
}

// step is one event in the life of a code. State says what became of it.
type step struct {
	Time       time.Time `json:"time" ch:"time"`
	Kind       string    `json:"kind" ch:"kind"`
	Org        string    `json:"org" ch:"org"`
	OrgName    string    `json:"org_name" ch:"org_name"`
	Region     string    `json:"region" ch:"region"`
	EventID    string    `json:"event_id" ch:"event_id"`
	Settlement string    `json:"settlement" ch:"settlement"`
	Pay        string    `json:"pay" ch:"pay"`
	Person     string    `json:"person" ch:"person"` // pseudonym
	Drug       string    `json:"drug" ch:"drug"`
	Quantity   string    `json:"quantity" ch:"quantity"`
	Split      bool      `json:"split" ch:"split"`
	Codes      uint16    `json:"codes" ch:"codes"` // of the event
	CodeKey    string    `json:"code_key" ch:"code_key"`
	CodeRaw    string    `json:"code_raw" ch:"code_raw"`
	Flags      []string  `json:"flags" ch:"flags"`
	Digest     uint32    `json:"-" ch:"digest"`

	State   string `json:"state"`         // see the constants below
	Partner string `json:"partner_event"` // what undid it, what it undoes, or the upload that speaks for it
}

// States of a step: stands, clock, and the fates of the view fates.
const (
	stateStands = "stands"
	stateClock  = "clock"  // left out: its time cannot be
	stateVoided = "voided" // as if it never happened
	stateMerged = "merged" // another upload of the sale or return Partner
	stateUndone = "undone" // a sale that Partner took back
	stateUndoes = "undoes" // a return that took Partner back
	stateIdle   = "idle"   // a return that took nothing back: no sale there, or the box was sold elsewhere by then
)

// key is what tells steps of one code apart.
func (s step) key() string { return fmt.Sprintf("%s/%s/%d", s.Org, s.EventID, s.Digest) }

const stepColumns = `
SELECT
    s.time AS time,
    toString(s.kind) AS kind,
    toString(s.org) AS org,
    f.name AS org_name,
    toString(s.region) AS region,
    s.event_id AS event_id,
    s.settlement AS settlement,
    toString(s.pay) AS pay,
    s.person AS person,
    toString(s.drug) AS drug,
    ifNull(toString(s.quantity), '') AS quantity,
    s.split AS split,
    s.codes AS codes,
    s.code_key AS code_key,
    s.code_raw AS code_raw,
    arrayMap(f -> toString(f), s.flags) AS flags,
    s.digest AS digest
FROM scans AS s
LEFT JOIN org_facts AS f ON f.org = s.org`

// The number of a key is the first column of the table's order: a lookup by it
// reads a few thousand rows, however many there are.
const keyNumber = `if(? = 'cn20', toUInt64OrZero(substring(?, 2)), xxHash64(?))`

const stepsByKey = stepColumns + `
WHERE s.code = ` + keyNumber + ` AND s.code_key = ?
ORDER BY
    time,
    org,
    event_id`

// Codes that are never compared have no key; they are looked up as they were read.
const stepsByRaw = stepColumns + `
WHERE s.code_raw = ?
ORDER BY
    time,
    org,
    event_id
LIMIT 1000`

const voidedByKey = `
SELECT
    toString(org),
    event_id,
    digest,
    'voided',
    ''
FROM timed_scans
WHERE code = ` + keyNumber + ` AND code_key = ? AND void_hit`

const fatesByKey = `
SELECT
    toString(org),
    event_id,
    digest,
    toString(fate),
    partner
FROM fates
WHERE code = ` + keyNumber + ` AND code_text = ?`

func traceAction(ctx context.Context, cmd *cli.Command) error {
	if cmd.Args().Len() != 1 {
		return usageErrorf("yaosu trace takes one CODE, got %d arguments; put a code with brackets or blanks in quotes", cmd.Args().Len())
	}
	if strings.TrimSpace(cmd.Args().First()) == "" {
		return usageErrorf("yaosu trace needs a CODE, got an empty one")
	}
	code := schema.NewClassifier(nil).Classify(cmd.Args().First(), cmd.String("drug"))
	conn, err := openClickHouse(ctx, cmd)
	if err != nil {
		return err
	}
	defer conn.Close()
	life, err := traceCode(ctx, conn, code)
	if err != nil {
		return err
	}
	var suspects []foundIn
	for _, key := range life.keys() {
		more, err := suspectsOf(ctx, conn, key)
		if err != nil {
			return err
		}
		suspects = append(suspects, more...)
	}
	if cmd.String("format") == "ndjson" {
		return life.writeNDJSON(cmd.Root().Writer, suspects)
	}
	return life.writeTable(cmd.Root().Writer, suspects)
}

// life is all that is known of a code.
type life struct {
	code  schema.Code
	steps []step
}

// keys are the distinct keys of the steps: one, but for a code read without its drug.
func (l life) keys() []string {
	var keys []string
	seen := map[string]bool{"": true}
	for _, s := range l.steps {
		if !seen[s.CodeKey] {
			seen[s.CodeKey] = true
			keys = append(keys, s.CodeKey)
		}
	}
	return keys
}

func traceCode(ctx context.Context, conn driver.Conn, code schema.Code) (life, error) {
	l := life{code: code}
	var err error
	if code.Item() {
		err = conn.Select(ctx, &l.steps, stepsByKey, keyArguments(code.Key)...)
	} else {
		err = conn.Select(ctx, &l.steps, stepsByRaw, code.Raw)
	}
	if err != nil {
		return l, fmt.Errorf("read the events of the code: %w", err)
	}
	for i := range l.steps {
		l.steps[i].Time = l.steps[i].Time.In(schema.Shanghai)
		l.steps[i].State = stateStands
	}
	for _, key := range l.keys() {
		if err := l.judge(ctx, conn, key); err != nil {
			return l, err
		}
	}
	return l, nil
}

// keyArguments are those of keyNumber and the comparison after it.
func keyArguments(key string) []any {
	scheme := ""
	// Only keys of this form have a number of their own; the view makes them so.
	if len(key) == 20 && key[0] == '8' && strings.Trim(key, "0123456789") == "" {
		scheme = string(schema.SchemeCN20)
	}
	return []any{scheme, key, key, key}
}

// judge says what became of the steps of one key, in the words of the views.
func (l *life) judge(ctx context.Context, conn driver.Conn, key string) error {
	fates := map[string][2]string{}
	sales, returns := 0, 0
	for _, s := range l.steps {
		switch {
		case s.CodeKey != key:
		case s.Kind == string(schema.Sale):
			sales++
		case s.Kind == string(schema.SaleReturn):
			returns++
		}
	}
	if err := readFates(ctx, conn, fates, voidedByKey, keyArguments(key)); err != nil {
		return fmt.Errorf("look for voids: %w", err)
	}
	// Only codes with more than one of these have more fates than that.
	if sales > 1 || returns > 0 {
		for _, s := range l.steps {
			if s.Kind == string(schema.Sale) || s.Kind == string(schema.SaleReturn) {
				delete(fates, s.key()) // a void may have come too late
			}
		}
		args := keyArguments(key)
		if args[0] != "" {
			args[3] = "" // code_text of a key that is a number
		}
		if err := readFates(ctx, conn, fates, fatesByKey, args); err != nil {
			return fmt.Errorf("look for returns: %w", err)
		}
	}
	for i := range l.steps {
		s := &l.steps[i]
		if s.CodeKey != key {
			continue
		}
		if slices.Contains(s.Flags, schema.FlagClock) {
			s.State = stateClock
		} else if fate, known := fates[s.key()]; known {
			s.State, s.Partner = fate[0], fate[1]
		}
	}
	l.nameMerged()
	return nil
}

// nameMerged finds, for each upload that another one speaks for, that other one.
func (l *life) nameMerged() {
	for i := range l.steps {
		s := &l.steps[i]
		if s.State != stateMerged {
			continue
		}
		for _, o := range l.steps {
			if o.State != stateMerged && o.State != stateVoided && o.State != stateClock &&
				o.CodeKey == s.CodeKey && o.Org == s.Org && o.Kind == s.Kind && o.Settlement == s.Settlement {
				s.Partner = o.EventID
				break
			}
		}
	}
}

// readFates adds to fates, by the keys of steps, the fate and the partner.
func readFates(ctx context.Context, conn driver.Conn, fates map[string][2]string, query string, args []any) error {
	rows, err := conn.Query(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var s step
		if err := rows.Scan(&s.Org, &s.EventID, &s.Digest, &s.State, &s.Partner); err != nil {
			return err
		}
		fates[s.key()] = [2]string{s.State, s.Partner}
	}
	return rows.Err()
}

// foundIn is a suspect a code is in, as short as a list wants it.
type foundIn struct {
	ID       string `json:"suspect_id" ch:"suspect_id"`
	Detector string `json:"detector" ch:"detector"`
	Severity string `json:"severity" ch:"severity"`
	Status   string `json:"status" ch:"status"`
	EntityID string `json:"entity_id" ch:"entity_id"`
	Reason   string `json:"reason" ch:"reason"`
}

func suspectsOf(ctx context.Context, conn driver.Conn, key string) ([]foundIn, error) {
	var found []foundIn
	err := conn.Select(ctx, &found, `
SELECT
    suspect_id,
    toString(detector) AS detector,
    toString(severity) AS severity,
    toString(status) AS status,
    entity_id,
    reason
FROM suspects
WHERE has(codes, ?)
ORDER BY
    last_time,
    suspect_id`, key)
	if err != nil {
		return nil, fmt.Errorf("read the suspects of the code: %w", err)
	}
	return found, nil
}

func (l life) writeNDJSON(out io.Writer, suspects []foundIn) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	for _, s := range l.steps {
		if err := encoder.Encode(struct {
			Type string `json:"type"`
			step
		}{"event", s}); err != nil {
			return err
		}
	}
	for _, f := range suspects {
		if err := encoder.Encode(struct {
			Type string `json:"type"`
			foundIn
		}{"suspect", f}); err != nil {
			return err
		}
	}
	return nil
}

func (l life) writeTable(out io.Writer, suspects []foundIn) error {
	name := l.code.Key
	if !l.code.Item() {
		name = printable(l.code.Raw, 100)
	}
	fmt.Fprintf(out, "追溯码 %s(%s)\n", name, schemeWords[l.code.Scheme])
	if !l.code.Item() {
		fmt.Fprintln(out, "此码不能指明单件药品,不参与比对;以下按扫描原文查找。")
		if l.code.Scheme == schema.SchemeOwn {
			fmt.Fprintln(out, "企业自编码须连同药品比对:可用 --drug 指明医保药品编码。")
		}
	}
	if len(l.steps) == 0 {
		_, err := fmt.Fprintln(out, "系统中没有此码的任何记录。")
		return err
	}
	t := newTable(out, "时间", "业务", "机构", "区划", "事件号", "结算", "参保人(假名)", "数量", "备注")
	for _, s := range l.steps {
		t.AppendRow(table.Row{
			clock(s.Time), export.Kind(s.Kind), strings.TrimSpace(s.OrgName + " " + s.Org), s.Region, printable(s.EventID, 64),
			printable(s.Settlement, 30), printable(s.Person, 64), s.amount(), s.remarks(),
		})
	}
	t.Render()
	if len(suspects) == 0 {
		_, err := fmt.Fprintln(out, "没有涉及此码的线索。")
		return err
	}
	fmt.Fprintf(out, "涉及此码的线索 %d 条:\n", len(suspects))
	t = newTable(out, "线索编号", "规则", "严重程度", "状态", "说明")
	t.SetColumnConfigs([]table.ColumnConfig{{Name: "说明", WidthMax: 80}})
	for _, f := range suspects {
		t.AppendRow(table.Row{f.ID, f.Detector, export.Severity(f.Severity), export.StatusWord(f.Status), printable(f.Reason, 1000)})
	}
	t.Render()
	return nil
}

func (s step) amount() string {
	switch {
	case s.Quantity == "":
		return ""
	case s.Split:
		return "拆零 " + s.Quantity
	}
	return s.Quantity
}

func (s step) remarks() string {
	var words []string
	switch s.State {
	case stateVoided:
		words = append(words, "已作废")
	case stateUndone:
		words = append(words, "已退货("+s.Partner+")")
	case stateUndoes:
		words = append(words, "冲销 "+s.Partner)
	case stateMerged:
		words = append(words, "重复上传(同 "+s.Partner+")")
	case stateIdle:
		words = append(words, "未冲销任何销售")
	case stateClock:
		words = append(words, "时钟异常,不参与比对")
	}
	if s.Kind == string(schema.Sale) && s.Pay == schema.PaySelf {
		words = append(words, "自费")
	}
	if s.Codes > 1 {
		words = append(words, fmt.Sprintf("本笔共 %d 码", s.Codes))
	}
	for _, flag := range s.Flags {
		if w, known := flagWords[flag]; known {
			words = append(words, w)
		} else if flag != schema.FlagClock {
			words = append(words, flag)
		}
	}
	return printable(strings.Join(words, ";"), 200)
}
