package gate

import (
	"encoding/json"
	"errors"
	"net/http"
	"regexp"

	"yaosu/schema"
)

var (
	orgForm    = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)
	regionForm = regexp.MustCompile(`^[0-9]{6}$`)
)

// check is POST /v1/check.
func (d *door) check(c *call) error {
	body, err := d.receive(c)
	if err != nil {
		return err
	}
	leave, err := d.enter(c)
	if err != nil {
		return err
	}
	defer leave()
	if body, err = d.unpack(c, body); errors.Is(err, errBroken) {
		return problemf(problemRequest, "请求内容无法解压:与 Content-Encoding 不符或已损坏。")
	} else if err != nil {
		return err
	}
	var q CheckRequest
	if err := json.Unmarshal(body, &q); err != nil {
		return problemf(problemRequest, "请求内容不是完整的 JSON 对象,或字段类型不对。")
	}
	switch {
	case !orgForm.MatchString(q.Org):
		return problemf(problemRequest, "机构编号(org)缺失或格式不对。")
	case !regionForm.MatchString(q.Region):
		return problemf(problemRequest, "区划(region)须为 6 位数字。")
	case len(q.Codes) == 0 || len(q.Codes) > schema.MaxCodes:
		return problemf(problemRequest, "追溯码(codes)须为 1 至 %d 个。", schema.MaxCodes)
	case q.Quantity != nil && !(*q.Quantity > 0):
		return problemf(problemRequest, "数量(quantity)须大于 0。")
	case !c.sender.May(q.Org, q.Region):
		return problemf(problemForbidden, "机构或区划不属于该凭证,不能代其查询。")
	}
	reply, err := d.Check.Check(c.r.Context(), q)
	if err != nil {
		return &problem{code: problemAway, cause: err}
	}
	return c.answer(http.StatusOK, reply)
}
