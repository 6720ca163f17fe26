package gate

import (
	"yaosu/schema"
)

// refusals has a Chinese sentence for each code of a schema.Refusal, in the parts
// around the name of the field; second is for when no field is named.
var refusals = map[string]struct{ before, after, alone string }{
	schema.RefuseEncoding:  {alone: "事件不是 UTF-8 编码。"},
	schema.RefuseJSON:      {"", "处的 JSON 不完整或重复。", "不是完整的 JSON 对象:请检查括号、引号和是否被截断。"},
	schema.RefuseMissing:   {"缺少必填项", "。", "缺少必填项。"},
	schema.RefuseType:      {"", "的 JSON 类型不对,请注意数字不加引号、文字要加引号。", "JSON 类型不对。"},
	schema.RefuseFormat:    {"", "的格式不对。", "格式不对。"},
	schema.RefuseLength:    {"", "超过规定长度。", "单条事件过大。"},
	schema.RefuseRange:     {"", "的数值超出允许范围。", "数值超出允许范围。"},
	schema.RefuseValue:     {"", "不在允许的取值之内。", "不在允许的取值之内。"},
	schema.RefuseCodes:     {alone: "追溯码个数不对:销售、退货至少一个,作废不得带码,每条最多 1000 个。"},
	schema.RefuseMessage:   {alone: "内容无法打开:为空、压缩方式未声明或已损坏。"},
	schema.RefuseTable:     {alone: "数据库拒收该条记录。"},
	schema.RefuseTransport: {alone: "内容类型不支持。"},
	schema.RefuseForeign:   {"", "不属于该凭证,不能代其上传。", "机构或区划不属于该凭证,不能代其上传。"},
}

// fieldWords are the fields as a vendor's programmer knows them.
var fieldWords = map[string]string{
	"event_id": "事件号", "kind": "业务类型", "time": "业务发生时间", "sent": "上传时间", "org": "机构编号", "region": "区划",
	"codes": "追溯码", "device": "终端设备编号", "drug": "医疗目录编码", "lot": "生产批号", "made": "生产日期", "expires": "有效期止",
	"split": "拆零标志", "quantity": "数量", "price": "单价", "days": "用药天数", "pay": "医保或自费", "settlement": "结算ID",
	"fund_pay": "基金支付", "visit": "就医流水号", "person": "参保人编号", "person_region": "参保地区划", "credential": "就诊凭证",
	"setting": "就医场景", "doctor": "开方医师姓名", "doctor_id": "开方医师证件号", "pharmacist": "药师姓名", "pharmacist_id": "药师资格证号",
	"operator": "经办人", "rx": "处方号", "doc": "单据号", "batch_no": "机构批次流水号", "supplier": "供应商名称", "reverses": "被冲销的事件号",
	"void_kind": "撤销针对的业务类型",
}

// sentence says in Chinese why an event is refused.
func sentence(why schema.Refusal) string {
	words, known := refusals[why.Code]
	switch {
	case !known:
		return "事件不符合要求。"
	case why.Field == "" || words.after == "":
		return words.alone
	}
	name := why.Field
	if word := fieldWords[why.Field]; word != "" {
		name = "“" + word + "”(" + why.Field + ")"
	}
	return words.before + name + words.after
}
