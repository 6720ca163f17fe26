package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/urfave/cli/v3"

	"yaosu/detect"
	"yaosu/detect/export"
	"yaosu/schema"
)

// tracedCodes is of how many codes of a suspect the other events are told.
const tracedCodes = 20

func explainCommand() *cli.Command {
	return &cli.Command{
		Name:      "explain",
		Usage:     "tells a suspect's evidence as a timeline, and what was decided",
		ArgsUsage: "ID",
		Description: "Prints, in order of time, each event that proves the suspect and the other events of its\n" +
			"codes between them, with what became of each; then the detector with its parameters, an\n" +
			"exemption if there is one, what explains the suspect when it is explained, and the decisions\n" +
			"so far. ID may be the beginning of one. Persons are pseudonyms. Other events are told of the\n" +
			fmt.Sprintf("first %d codes; `yaosu trace` tells the life of any code.\n\n", tracedCodes) +
			"Example:\n" +
			"  yaosu detect explain 7rigb4nirasbhmn8",
		Action: explainSuspect,
	}
}

// moment is one line of the timeline.
type moment struct {
	schema.LifeStep
	evidence bool
	roles    string
}

func explainSuspect(ctx context.Context, cmd *cli.Command) error {
	id, err := oneSuspect(cmd)
	if err != nil {
		return err
	}
	conn, err := openClickHouse(ctx, cmd)
	if err != nil {
		return err
	}
	defer conn.Close()
	if id, err = detect.FindSuspect(ctx, conn, id); err != nil {
		return err
	}
	list, err := export.Read(ctx, conn, export.Filter{ID: id, All: true})
	if err != nil {
		return err
	}
	if len(list) != 1 {
		return fmt.Errorf("suspect %s: %w", id, detect.ErrUnknownSuspect)
	}
	var around export.Around
	if err := around.ReadNames(ctx, conn, list); err != nil {
		return err
	}
	s := &list[0]
	timeline, err := timelineOf(ctx, conn, list, &around)
	if err != nil {
		return err
	}
	history, err := detect.History(ctx, conn, id)
	if err != nil {
		return err
	}
	exemption, exempt, err := detect.ExemptionOf(ctx, conn, s)
	if err != nil {
		return err
	}
	out := cmd.Root().Writer
	if err := writeSuspect(out, s, &around); err != nil {
		return err
	}
	writeTimeline(out, s, timeline)
	if exempt {
		fmt.Fprintf(out, "豁免:%s,批准人 %s,%s。\n", printable(exemption.Reason, 300), printable(exemption.Author, 60), days(exemption))
	}
	if s.Status == schema.StatusExplained && !exempt {
		fmt.Fprintln(out, ground(timeline))
	}
	return writeHistory(out, history)
}

func days(e detect.Exemption) string {
	switch {
	case e.From == "" && e.To == "":
		return "不限日期"
	case e.To == "":
		return e.From + " 起"
	case e.From == "":
		return "至 " + e.To
	}
	return e.From + " 至 " + e.To
}

// timelineOf is the evidence of the only suspect of list and what else happened to
// its codes, in order of time.
func timelineOf(ctx context.Context, conn driver.Conn, list []schema.Suspect, around *export.Around) ([]moment, error) {
	s := &list[0]
	events := map[string]bool{}
	for _, e := range s.Events {
		events[e] = true
	}
	var all []moment
	told := map[string]bool{}
	for _, key := range s.Codes[:min(len(s.Codes), tracedCodes)] {
		l, err := schema.ReadLife(ctx, conn, schema.Code{Raw: key, Key: key})
		if err != nil {
			return nil, err
		}
		for _, step := range l.Steps {
			m := moment{LifeStep: step, evidence: events[step.Org+"/"+step.EventID]}
			if m.evidence {
				m.roles = export.EventRoles(s, step.Org, step.Kind)
			}
			told[step.Org+"/"+step.EventID+"/"+step.CodeKey] = true
			all = append(all, m)
		}
	}
	// What has no code, or one that was not traced.
	err := export.Evidence(ctx, conn, list, false, func(_ *schema.Suspect, lines []export.Line) error {
		for _, l := range lines {
			if told[l.Org+"/"+l.EventID+"/"+l.Code] {
				continue
			}
			all = append(all, moment{
				LifeStep: schema.LifeStep{
					Time: l.Time, Kind: l.Kind, Org: l.Org, OrgName: around.Names[l.Org], Region: l.Region, EventID: l.EventID,
					Settlement: l.Settlement, Pay: l.Pay, Person: l.Person, CodeKey: l.Code, State: schema.StepStands,
				},
				evidence: true, roles: export.EventRoles(s, l.Org, l.Kind),
			})
		}
		return nil
	})
	slices.SortStableFunc(all, func(a, b moment) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Org, b.Org), cmp.Compare(a.EventID, b.EventID), cmp.Compare(a.CodeKey, b.CodeKey))
	})
	return all, err
}

func writeSuspect(out io.Writer, s *schema.Suspect, around *export.Around) error {
	rules, err := detect.Rules()
	if err != nil {
		return err
	}
	title, check, looks := s.Detector, "", ""
	version := ""
	for _, rule := range rules {
		if rule.ID == s.Detector {
			title, check, version = rule.TitleZH+" "+rule.ID, export.Plain(rule.Section("What to check")), rule.Version
			looks = rule.Section("What it looks like")
		}
	}
	fmt.Fprintf(out, "线索 %s:%s\n%s\n\n", s.ID, title, printable(s.Reason, 2000))
	lines := [][2]string{
		{"状态", export.Status(s)},
		{"严重程度", export.Severity(s.Severity)},
		{"对象", export.Entity(s.EntityKind) + " " + printable(s.EntityID, 200)},
		{"月份", s.Period},
		{"金额", fmt.Sprintf("%.2f 元", s.Amount)},
		{"地区", strings.Join(named(s.Regions, around.Regions), "、")},
		{"首次发现", clock(s.OpenedAt) + ",最近变化 " + clock(s.UpdatedAt)},
		{"规则版本", s.DetectorVersion},
		{"参数", parameters(s.Parameters, looks)},
	}
	if version != "" && version != s.DetectorVersion {
		lines[7][1] += "(现行 " + version + ")"
	}
	for _, l := range lines {
		if l[1] != "" {
			fmt.Fprintf(out, "  %s:%s\n", l[0], l[1])
		}
	}
	if check != "" {
		fmt.Fprintf(out, "\n怎样核查\n%s\n", check)
	}
	_, err = fmt.Fprintln(out)
	return err
}

func named(regions []string, names map[string]string) []string {
	var list []string
	for _, r := range regions {
		if names[r] != "" {
			r = names[r] + "(" + r + ")"
		}
		list = append(list, r)
	}
	return list
}

// parameters writes the JSON of parameters, each with what the page of the rule
// says of it first.
func parameters(text, page string) string {
	var values map[string]any
	if json.Unmarshal([]byte(text), &values) != nil {
		return printable(text, 300)
	}
	var list []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		one := fmt.Sprintf("%s = %v", name, values[name])
		if _, note, found := strings.Cut(page, "- `"+name+"`"); found {
			note, _, _ = strings.Cut(note, "\n-")
			_, note, _ = strings.Cut(note, ":")
			note, _, _ = strings.Cut(export.Plain(note), "。")
			one += "(" + note + ")"
		}
		list = append(list, one)
	}
	return strings.Join(list, ",")
}

func writeTimeline(out io.Writer, s *schema.Suspect, timeline []moment) {
	fmt.Fprintf(out, "证据事件 %d 个(★),连同所涉追溯码的其他事件,按时间:\n", len(s.Events))
	t := newTable(out, "", "时间", "业务", "机构", "区划", "追溯码", "事件号", "参保人(假名)", "数量", "含义")
	t.SetColumnConfigs([]table.ColumnConfig{{Name: "机构", WidthMax: 30}, {Name: "追溯码", WidthMax: 28}, {Name: "事件号", WidthMax: 24}, {Name: "含义", WidthMax: 36}})
	for _, m := range timeline {
		mark, at, kind := "", "", export.Kind(m.Kind)
		if m.evidence {
			mark = "★"
		}
		if m.Time.After(time.Unix(0, 0)) {
			at = clock(m.Time)
		}
		if m.Kind == "" {
			kind = "明细已不在库"
		}
		meaning := strings.Trim(m.roles+";"+remarks(m.LifeStep), ";")
		t.AppendRow(table.Row{
			mark, at, kind, strings.TrimSpace(m.OrgName + " " + m.Org), m.Region, printable(cmp.Or(m.CodeKey, m.CodeRaw), 60), printable(m.EventID, 64), printable(m.Person, 64), amount(m.LifeStep), meaning,
		})
	}
	t.Render()
	if len(s.Codes) > tracedCodes {
		fmt.Fprintf(out, "共 %d 个追溯码,以上只列前 %d 个的其他事件;其余用 yaosu trace 查。\n", len(s.Codes), tracedCodes)
	}
}

// ground says what took the ground away from a suspect that is explained.
func ground(timeline []moment) string {
	var found []string
	for _, m := range timeline {
		if !m.evidence {
			continue
		}
		switch m.State {
		case schema.StepUndone:
			found = append(found, fmt.Sprintf("%s 的事件 %s 已由 %s 退货冲销", m.Org, printable(m.EventID, 64), printable(m.Partner, 64)))
		case schema.StepVoided:
			found = append(found, fmt.Sprintf("%s 的事件 %s 已作废", m.Org, printable(m.EventID, 64)))
		case schema.StepMerged:
			found = append(found, fmt.Sprintf("%s 的事件 %s 与 %s 是同一笔", m.Org, printable(m.EventID, 64), printable(m.Partner, 64)))
		case schema.StepClock:
			found = append(found, fmt.Sprintf("%s 的事件 %s 时钟异常", m.Org, printable(m.EventID, 64)))
		}
	}
	if len(found) == 0 {
		return "已解释:证据事件都还在,原因是参考数据(药品、机构、人员等)或规则、参数变了,按现在的口径不再成立。"
	}
	return "已解释:" + strings.Join(found, ";") + "。"
}
