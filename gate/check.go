package gate

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"yaosu/schema"
)

// check is POST /v1/check.
func (d *door) check(c *call) error {
	body, leave, err := d.load(c, false)
	if err != nil {
		return err
	}
	defer leave()
	var q CheckRequest
	if err := json.Unmarshal(body, &q); err != nil {
		return problemf(problemRequest, "请求内容不是完整的 JSON 对象,或字段类型不对。")
	}
	var reply CheckReply
	if err = q.Validate(); err == nil {
		if !c.sender.May(q.Org, q.Region) {
			return problemf(problemForbidden, "机构或区划不属于该凭证,不能代其查询。")
		}
		reply, err = d.Check.Check(c.r.Context(), q)
	}
	var wrong *RequestError
	switch {
	case errors.As(err, &wrong):
		return problemf(problemRequest, "%s", wrong.Reason)
	case err != nil:
		return &problem{code: problemAway, cause: err}
	}
	return c.answer(http.StatusOK, reply)
}

// Texts that are longer than those of an event, contract.md section 1, are none; here
// in bytes, of which a character has up to four.
const (
	mostPerson     = 4 * 64
	mostSettlement = 4 * 30
	mostDrug       = 4 * 50
	mostCode       = 1000
)

// Validate returns a *RequestError for what can be no question.
func (q *CheckRequest) Validate() error {
	wrong := ""
	switch {
	case !schema.ValidOrg(q.Org):
		wrong = "机构编号(org)缺失或格式不对。"
	case !schema.ValidRegion(q.Region):
		wrong = "区划(region)须为 6 位数字。"
	case len(q.Codes) == 0 || len(q.Codes) > schema.MaxCodes:
		wrong = fmt.Sprintf("追溯码(codes)须为 1 至 %d 个。", schema.MaxCodes)
	case q.Quantity != nil && !(*q.Quantity > 0 && *q.Quantity < 1e12):
		wrong = "数量(quantity)须大于 0。"
	case len(q.Person) > mostPerson || len(q.Settlement) > mostSettlement || len(q.Drug) > mostDrug:
		wrong = "人员编号、结算ID 或药品编码过长。"
	}
	for _, code := range q.Codes {
		if len(code) > mostCode {
			wrong = "追溯码过长。"
		}
	}
	if wrong != "" {
		return &RequestError{wrong}
	}
	return nil
}
