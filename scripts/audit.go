package scripts

import (
	"context"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/voltageems/voltage/model"
)

// auditKept is about how many entries the audit journal keeps.
const auditKept = 10_000

// Audit appends entries to the audit journal, in order, all or none. A reply that is
// lost makes it fail although they may be there: who repeats may write them twice.
func (p *Plane) Audit(ctx context.Context, entries ...model.AuditEntry) error {
	_, err := p.client.TxPipelined(ctx, func(tx redis.Pipeliner) error {
		for _, e := range entries {
			tx.XAdd(ctx, &redis.XAddArgs{Stream: p.keys.auditJournal(), MaxLen: auditKept, Approx: true, Values: []any{
				"time", e.Time.UnixMilli(), "who", e.Who, "role", string(e.Role), "from", e.From, "action", e.Action,
				"target", e.Target, "detail", e.Detail, "result", e.Result, "status", e.Status}})
		}
		return nil
	})
	return storeError("writing the audit journal", err)
}

// AuditJournal returns entries after a position; "" is the oldest kept.
func (p *Plane) AuditJournal(ctx context.Context, after string, limit int) ([]model.AuditEntry, error) {
	entries, err := p.read(ctx, p.keys.auditJournal(), after, limit)
	if err != nil {
		return nil, err
	}
	list := make([]model.AuditEntry, len(entries))
	for i, e := range entries {
		get := func(name string) string { return text(e.Values, name) }
		list[i] = model.AuditEntry{Position: e.ID, Time: millis(get("time")), Who: get("who"), Role: model.Role(get("role")), From: get("from"),
			Action: get("action"), Target: get("target"), Detail: get("detail"), Result: get("result")}
		list[i].Status, _ = strconv.Atoi(get("status")) // another program may have written what it likes
	}
	return list, nil
}
