package gate

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"
)

// problem is an answer that is an error, as RFC 9457 has it. A handler returns it;
// serve writes it.
type problem struct {
	code   string // a key of problems
	detail string // Chinese, for the vendor: what was wrong with this request
	retry  time.Duration
	cause  error // for the log alone
}

func (p *problem) Error() string {
	if p.cause != nil {
		return p.code + ": " + p.cause.Error()
	}
	return p.code
}

// problemf makes a problem with a detail of its own.
func problemf(code, format string, args ...any) *problem {
	return &problem{code: code, detail: fmt.Sprintf(format, args...)}
}

// Codes of problems. They stand in type and code, and never change.
const (
	problemRequest    = "bad-request"
	problemSender     = "unknown-sender"
	problemForbidden  = "forbidden"
	problemNotFound   = "not-found"
	problemMethod     = "method-not-allowed"
	problemTimeout    = "request-timeout"
	problemTooLarge   = "too-large"
	problemType       = "unsupported-type"
	problemRate       = "rate-limited"
	problemInternal   = "internal"
	problemBusy       = "busy"
	problemStore      = "not-stored"
	problemFull       = "storage-full"
	problemAway       = "part-away"
	problemCrossSite  = "cross-origin"
	problemTypePrefix = "urn:yaosu:problem:"
)

// problems says what each code means: the status, and a title and a detail for
// requests of which nothing more is known.
var problems = map[string]struct {
	status        int
	title, detail string
}{
	problemRequest:   {http.StatusBadRequest, "请求无法识别", "请对照接口文档检查请求内容。"},
	problemSender:    {http.StatusUnauthorized, "凭证无效", "请在 Authorization 头中以 Bearer 方式提供有效凭证,或使用已登记的客户端证书。凭证可能已被吊销。"},
	problemForbidden: {http.StatusForbidden, "无权访问", "该凭证无权进行此操作。"},
	problemNotFound:  {http.StatusNotFound, "没有此接口", "请核对请求地址,接口清单见 /openapi.yaml。"},
	problemMethod:    {http.StatusMethodNotAllowed, "请求方法不对", "此接口支持的方法见 Allow 头。"},
	problemTimeout:   {http.StatusRequestTimeout, "请求传输超时", "请求内容未能在规定时间内传完,请检查网络后重发。"},
	problemTooLarge:  {http.StatusRequestEntityTooLarge, "请求过大", "请减少每次上传的事件数后重发。"},
	problemType:      {http.StatusUnsupportedMediaType, "内容类型或压缩方式不支持", "请使用 application/json 或 application/x-ndjson,压缩可用 gzip 或 zstd。"},
	problemRate:      {http.StatusTooManyRequests, "请求过于频繁", "请按 Retry-After 头的秒数等待后重发,并把多条事件合并在一次请求中。"},
	problemInternal:  {http.StatusInternalServerError, "服务内部错误", "事件可能未保存,请稍后重发;如反复出现,请凭请求编号联系管理员。"},
	problemBusy:      {http.StatusServiceUnavailable, "服务繁忙", "事件未保存,请按 Retry-After 头的秒数等待后重发。"},
	problemStore:     {http.StatusServiceUnavailable, "暂时无法保存", "本次请求未能全部保存,请原样重发整个请求;重复的部分不会重复计算。"},
	problemFull: {http.StatusServiceUnavailable, "存储已满", "本次请求未能全部保存,已保存的不会丢失。收银机旁的代理请恢复网络,或清理磁盘、调大 --spool-bytes;" +
		"服务端请联系管理员。之后原样重发整个请求,重复的部分不会重复计算。"},
	problemAway:      {http.StatusServiceUnavailable, "后台服务暂不可用", "请稍后再试。"},
	problemCrossSite: {http.StatusForbidden, "拒绝跨站请求", "此接口不接受其他网站页面发起的请求。"},
}

// problemBody is a problem on the wire, and what GET /openapi.yaml calls Problem.
type problemBody struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail"`
	Code      string `json:"code"`
	RequestID string `json:"request_id"`
}

// write answers with p.
func (p *problem) write(w http.ResponseWriter, requestID string) (status int) {
	known := problems[p.code]
	body := problemBody{
		Type:      problemTypePrefix + p.code,
		Title:     known.title,
		Status:    known.status,
		Detail:    known.detail,
		Code:      p.code,
		RequestID: requestID,
	}
	if p.detail != "" {
		body.Detail = p.detail
	}
	header := w.Header()
	if p.retry > 0 {
		header.Set("Retry-After", strconv.Itoa(p.retrySeconds()))
	}
	if p.code == problemSender {
		header.Set("WWW-Authenticate", `Bearer realm="yaosu"`)
	}
	header.Set("Content-Type", "application/problem+json; charset=utf-8")
	header.Set("Cache-Control", "no-store")
	w.WriteHeader(known.status)
	_ = json.NewEncoder(w).Encode(body) // the client is gone, and there is nobody to tell
	return known.status
}

func (p *problem) retrySeconds() int { return int(math.Ceil(p.retry.Seconds())) }
