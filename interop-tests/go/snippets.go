// Package interop is what a program has to do with message sessions when all it knows is AMQP 1.0.
//
// The functions take an AMQP session of a connection made like this:
//
//	amqp.Dial(ctx, "amqp://"+host, &amqp.ConnOptions{SASLType: amqp.SASLTypePlain(policyName, key)})
package interop

import (
	"context"
	"fmt"
	"time"

	"github.com/Azure/go-amqp"
)

// snippet: accept-by-id

const filter = "com.microsoft:session-filter"

// AcceptByID takes the message session id of a queue. The error's condition is
// com.microsoft:session-cannot-be-locked if another has it.
func AcceptByID(ctx context.Context, session *amqp.Session, queue, id string) (*amqp.Receiver, error) {
	return accept(ctx, session, queue, id)
}

func accept(ctx context.Context, session *amqp.Session, queue string, id any) (*amqp.Receiver, error) {
	return session.NewReceiver(ctx, queue, &amqp.ReceiverOptions{
		Credit:  -1, // IssueCredit asks for messages, once the lock is there
		Filters: []amqp.LinkFilter{amqp.NewLinkFilter(filter, 0, id)},
	})
}

// end snippet

// snippet: accept-next

// AcceptNext takes the next message session that has a message, as soon as there is one, and says which one it is.
func AcceptNext(ctx context.Context, session *amqp.Session, queue string) (*amqp.Receiver, string, error) {
	receiver, err := accept(ctx, session, queue, nil)
	if err != nil {
		return nil, "", err
	}
	return receiver, receiver.LinkSourceFilterValue(filter).(string), nil
}

// end snippet

// snippet: renew

// Management is a pair of links to <queue>/$management. It asks one thing at a time.
type Management struct {
	sender   *amqp.Sender
	receiver *amqp.Receiver
	replyTo  string
}

// RequestRefused is an answer that is not 200.
type RequestRefused struct {
	Status      int32
	Description string
	Condition   string
}

func (r *RequestRefused) Error() string { return fmt.Sprintf("%d %s", r.Status, r.Description) }

func NewManagement(ctx context.Context, session *amqp.Session, queue string) (*Management, error) {
	node := queue + "/$management"
	replyTo := "replies-to-" + queue
	sender, err := session.NewSender(ctx, node, nil)
	if err != nil {
		return nil, err
	}
	receiver, err := session.NewReceiver(ctx, node, &amqp.ReceiverOptions{TargetAddress: replyTo})
	return &Management{sender, receiver, replyTo}, err
}

func (m *Management) Ask(ctx context.Context, operation string, body map[string]any) (map[string]any, error) {
	request := &amqp.Message{
		Properties:            &amqp.MessageProperties{MessageID: operation, ReplyTo: &m.replyTo},
		ApplicationProperties: map[string]any{"operation": operation},
		Value:                 body,
	}
	if err := m.sender.Send(ctx, request, nil); err != nil {
		return nil, err
	}
	answer, err := m.receiver.Receive(ctx, nil)
	if err != nil {
		return nil, err
	}
	result := answer.ApplicationProperties
	if status := result["statusCode"].(int32); status != 200 {
		condition, _ := result["errorCondition"].(string)
		return nil, &RequestRefused{status, result["statusDescription"].(string), condition}
	}
	value, _ := answer.Value.(map[string]any) // an empty map is decoded into another type
	return value, nil
}

// Renew holds the lock for another lock duration, and says when that ends.
func (m *Management) Renew(ctx context.Context, id string) (time.Time, error) {
	answer, err := m.Ask(ctx, "com.microsoft:renew-session-lock", map[string]any{"session-id": id})
	if err != nil {
		return time.Time{}, err
	}
	return answer["expiration"].(time.Time), nil
}

// end snippet

// snippet: state

// GetState is the state of the message session id, or nil. The connection must hold the message session.
func GetState(ctx context.Context, m *Management, id string) ([]byte, error) {
	answer, err := m.Ask(ctx, "com.microsoft:get-session-state", map[string]any{"session-id": id})
	if err != nil {
		return nil, err
	}
	state, _ := answer["session-state"].([]byte)
	return state, nil
}

// SetState replaces the state; nil removes it.
func SetState(ctx context.Context, m *Management, id string, state []byte) error {
	body := map[string]any{"session-id": id, "session-state": nil}
	if state != nil {
		body["session-state"] = state
	}
	_, err := m.Ask(ctx, "com.microsoft:set-session-state", body)
	return err
}

// end snippet

// snippet: send

// Send sends bodies to the message session id; each is stored when its turn is over.
func Send(ctx context.Context, session *amqp.Session, queue, id string, bodies ...string) error {
	sender, err := session.NewSender(ctx, queue, nil)
	if err != nil {
		return err
	}
	for _, body := range bodies {
		message := amqp.NewMessage([]byte(body))
		message.Properties = &amqp.MessageProperties{GroupID: &id}
		if err := sender.Send(ctx, message, nil); err != nil {
			return err
		}
	}
	return sender.Close(ctx)
}

// end snippet
