package interop

import (
	"fmt"
	"time"

	"github.com/Azure/go-amqp"
)

const (
	filterCode = 0x0000_0013_7000_000c
	held       = "com.microsoft:session-cannot-be-locked"
	lost       = "com.microsoft:session-lock-lost"
)

var messageSessions = map[string]func(*Scenario){
	"generic_session_by_a_described_filter_with_symbol":   func(s *Scenario) { acceptByFilter(s, 0, "mine") },
	"generic_session_by_a_described_filter_with_ulong":    func(s *Scenario) { acceptByFilter(s, filterCode, "mine") },
	"generic_session_by_a_symbol_typed_id":                func(s *Scenario) { acceptByFilter(s, 0, amqp.Symbol("mine")) },
	"generic_session_next_by_null":                        nextByNull,
	"generic_session_held_elsewhere_is_refused":           heldElsewhereIsRefused,
	"generic_session_messages_come_in_order":              messagesComeInOrder,
	"generic_session_lock_is_renewed_by_management":       lockIsRenewedByManagement,
	"generic_session_state_by_management":                 stateByManagement,
	"generic_session_by_jms_selector":                     byJmsSelector,
	"generic_session_next_by_jms_selector":                nextByJmsSelector,
	"generic_session_auto_renewed_while_the_link_is_open": autoRenewed,
}

func acceptByFilter(s *Scenario, descriptor uint64, id any) {
	session := s.connect()
	s.succeed(Send(s.ctx, session, s.queue, "mine", "for me"))
	s.succeed(Send(s.ctx, session, s.queue, "theirs", "not for me"))
	asked := []amqp.LinkFilter{amqp.NewLinkFilter(filter, descriptor, id)}
	receiver := s.receiver(session, amqp.ReceiverOptions{Filters: asked})
	s.equal(fmt.Sprint(receiver.LinkSourceFilterValue(filter)), "mine")
	message := s.receive(receiver, 1)[0]
	s.equal(string(message.GetData()), "for me")
	s.equal(*message.Properties.GroupID, "mine")
	s.empty(receiver)
	s.succeed(receiver.AcceptMessage(s.ctx, message))
	s.succeed(receiver.Close(s.ctx))
}

func nextByNull(s *Scenario) {
	session := s.connect()
	type accepted struct {
		receiver *amqp.Receiver
		id       string
		err      error
	}
	pending := make(chan accepted)
	go func() {
		receiver, id, err := AcceptNext(s.ctx, session, s.queue)
		pending <- accepted{receiver, id, err}
	}()
	// On the same AMQP session: an accept that waits holds nothing up.
	s.succeed(Send(s.ctx, session, s.queue, "first", "one"))
	first := <-pending
	s.succeed(first.err)
	s.equal(first.id, "first")
	s.succeed(Send(s.ctx, session, s.queue, "second", "two"))
	second, id, err := AcceptNext(s.ctx, s.connect(), s.queue)
	s.succeed(err)
	s.equal(id, "second")
	for body, receiver := range map[string]*amqp.Receiver{"one": first.receiver, "two": second} {
		message := s.receive(receiver, 1)[0]
		s.equal(string(message.GetData()), body)
		s.succeed(receiver.AcceptMessage(s.ctx, message))
	}

	// None is left: the wait ends after the time asked for.
	_, err = session.NewReceiver(s.ctx, s.queue, &amqp.ReceiverOptions{
		Filters:    []amqp.LinkFilter{amqp.NewLinkFilter(filter, 0, nil)},
		Properties: map[string]any{"com.microsoft:timeout": uint32(500)},
	})
	s.refused(err, "com.microsoft:timeout")
}

func heldElsewhereIsRefused(s *Scenario) {
	one := s.connect()
	other, connection := s.connectWith("amqp", plain())
	holder := must(AcceptByID(s.ctx, one, s.queue, "held"))(s)
	for _, session := range []*amqp.Session{other, one} {
		_, err := AcceptByID(s.ctx, session, s.queue, "held")
		s.refused(err, held)
	}
	must(AcceptByID(s.ctx, other, s.queue, "free"))(s)
	_, err := other.NewReceiver(s.ctx, s.queue, nil)
	s.refused(err, "amqp:not-allowed")
	// A close of the link frees it at once; so do an end of the AMQP session and the close of a connection.
	s.succeed(holder.Close(s.ctx))
	must(AcceptByID(s.ctx, other, s.queue, "held"))(s)
	s.succeed(other.Close(s.ctx))
	must(AcceptByID(s.ctx, one, s.queue, "held"))(s)
	third := must(connection.NewSession(s.ctx, nil))(s)
	must(AcceptByID(s.ctx, third, s.queue, "free"))(s)
	// go-amqp does not wait for the answer to a close.
	s.succeed(connection.Close())
	s.waitUntil(func() bool {
		_, err = AcceptByID(s.ctx, one, s.queue, "free")
		return err == nil
	}, "the end of a lock whose connection was closed")
}

func messagesComeInOrder(s *Scenario) {
	session := s.connect()
	expected := map[string][]string{}
	for n := range 30 {
		id := []string{"even", "odd"}[n%2]
		expected[id] = append(expected[id], fmt.Sprint(n))
		s.succeed(Send(s.ctx, session, s.queue, id, fmt.Sprint(n)))
	}
	odd := must(AcceptByID(s.ctx, session, s.queue, "odd"))(s)
	even := must(AcceptByID(s.ctx, session, s.queue, "even"))(s)
	first := s.receive(odd, 3)
	s.equal(bodies(first), []string{"1", "3", "5"})
	// What is returned comes before everything later.
	s.succeed(odd.ModifyMessage(s.ctx, first[1], &amqp.ModifyMessageOptions{DeliveryFailed: true}))
	again := s.receive(odd, 1)[0]
	s.equal(string(again.GetData()), "3")
	s.equal(deliveryCount(again), 1)
	for _, message := range []*amqp.Message{first[0], again, first[2]} {
		s.succeed(odd.AcceptMessage(s.ctx, message))
	}
	rest := s.receive(odd, 12)
	s.equal(bodies(rest), expected["odd"][3:])
	for _, message := range rest {
		s.equal(*message.Properties.GroupID, "odd")
	}
	s.equal(bodies(s.receive(even, 15)), expected["even"])
	s.empty(odd)
	s.empty(even)

	sender := must(session.NewSender(s.ctx, s.queue, nil))(s)
	s.refused(sender.Send(s.ctx, texts("no group-id")[0], nil), "amqp:not-allowed")
	message := texts("with one")[0]
	message.Properties = &amqp.MessageProperties{GroupID: pointer("odd")}
	s.succeed(sender.Send(s.ctx, message, nil))
}

func lockIsRenewedByManagement(s *Scenario) {
	// The heartbeat is due several times while nothing else is said.
	options := plain()
	options.IdleTimeout = time.Second
	session, _ := s.connectWith("amqp", options)
	management := s.management(session)
	s.succeed(Send(s.ctx, session, s.queue, "renewed", "held long"))
	s.succeed(Send(s.ctx, session, s.queue, "let go", "back soon"))
	receiver := must(AcceptByID(s.ctx, session, s.queue, "renewed"))(s)
	idle := must(AcceptByID(s.ctx, session, s.queue, "let go"))(s)
	message := s.receive(receiver, 1)[0]
	s.receive(idle, 1)
	until := message.Annotations["x-opt-locked-until"].(time.Time)
	for range 2 {
		letTimePass(3 * time.Second)
		end := must(management.Renew(s.ctx, "renewed"))(s)
		if !end.After(until) {
			s.Fatalf("%v after %v", end, until)
		}
		until = end
	}
	s.succeed(receiver.AcceptMessage(s.ctx, message))
	s.waitUntil(func() bool { return len(s.peek(management, 1, 100)) == 1 }, "the end of the message")

	// The other one ran out: its link has ended, nobody renews it, and its message is counted.
	_, err := idle.Receive(s.ctx, nil)
	s.refused(err, lost)
	_, err = management.Renew(s.ctx, "let go")
	s.refused(err, lost)
	next := must(AcceptByID(s.ctx, session, s.queue, "let go"))(s)
	again := s.receive(next, 1)[0]
	s.equal(deliveryCount(again), 1)
	s.succeed(next.AcceptMessage(s.ctx, again))

	// Only the connection that holds it renews it.
	_, err = s.management(s.connect()).Renew(s.ctx, "renewed")
	s.refused(err, lost)
}

func stateByManagement(s *Scenario) {
	session := s.connect()
	management := s.management(session)
	receiver := must(AcceptByID(s.ctx, session, s.queue, "stateful"))(s)
	s.equal(must(GetState(s.ctx, management, "stateful"))(s), []byte(nil))
	s.succeed(SetState(s.ctx, management, "stateful", []byte{0, 1, 255}))
	s.equal(must(GetState(s.ctx, management, "stateful"))(s), []byte{0, 1, 255})
	// No bytes are none.
	s.succeed(SetState(s.ctx, management, "stateful", []byte{}))
	s.equal(must(GetState(s.ctx, management, "stateful"))(s), []byte(nil))
	s.succeed(SetState(s.ctx, management, "stateful", []byte("kept")))
	s.succeed(receiver.Close(s.ctx))
	_, err := GetState(s.ctx, management, "stateful")
	s.refused(err, lost)

	other := s.connect()
	theirs := s.management(other)
	must(AcceptByID(s.ctx, other, s.queue, "stateful"))(s)
	s.equal(string(must(GetState(s.ctx, theirs, "stateful"))(s)), "kept")
	s.refused(SetState(s.ctx, management, "stateful", nil), lost)
	s.succeed(SetState(s.ctx, theirs, "stateful", nil))
	s.equal(must(GetState(s.ctx, theirs, "stateful"))(s), []byte(nil))
}

const selectorType = "apache.org:selector-filter:string"

func selecting(text string) amqp.ReceiverOptions {
	return amqp.ReceiverOptions{Filters: []amqp.LinkFilter{amqp.NewSelectorFilter(text)}}
}

func byJmsSelector(s *Scenario) {
	session := s.connect()
	s.succeed(Send(s.ctx, session, s.queue, "it's mine", "for me"))
	s.succeed(Send(s.ctx, session, s.queue, "theirs", "not for me"))
	receiver := s.receiver(session, selecting("JMSXGroupID = 'it''s mine'"))
	s.equal(receiver.LinkSourceFilterValue(selectorType), "JMSXGroupID = 'it''s mine'")
	_, err := AcceptByID(s.ctx, session, s.queue, "it's mine")
	s.refused(err, held)
	message := s.receive(receiver, 1)[0]
	s.equal(string(message.GetData()), "for me")
	s.empty(receiver)
	s.succeed(receiver.AcceptMessage(s.ctx, message))
	s.succeed(receiver.Close(s.ctx))
	red := selecting("colour = 'red'")
	_, err = session.NewReceiver(s.ctx, s.queue, &red)
	s.refused(err, "amqp:not-implemented")
}

func nextByJmsSelector(s *Scenario) {
	session := s.connect()
	pending := make(chan *amqp.Receiver)
	go func() {
		options := selecting("JMSXGroupID IS NOT NULL")
		options.Credit = -1
		receiver, err := session.NewReceiver(s.ctx, s.queue, &options)
		if err != nil {
			s.Error(err)
		}
		pending <- receiver
	}()
	s.succeed(Send(s.ctx, session, s.queue, "first", "one"))
	receiver := <-pending
	if receiver == nil {
		return
	}
	// The answer says which one it is.
	s.equal(receiver.LinkSourceFilterValue(selectorType), "JMSXGroupID = 'first'")
	message := s.receive(receiver, 1)[0]
	s.equal(string(message.GetData()), "one")
	s.succeed(receiver.AcceptMessage(s.ctx, message))
	s.succeed(receiver.Close(s.ctx))
}

func autoRenewed(s *Scenario) {
	session, other := s.connect(), s.connect()
	s.succeed(Send(s.ctx, session, s.queue, "held", "one"))
	receiver := must(AcceptByID(s.ctx, session, s.queue, "held"))(s)
	message := s.receive(receiver, 1)[0]
	// More than the five seconds of a lock.
	letTimePass(7 * time.Second)
	_, err := AcceptByID(s.ctx, other, s.queue, "held")
	s.refused(err, held)
	s.succeed(receiver.AcceptMessage(s.ctx, message))
	s.succeed(Send(s.ctx, session, s.queue, "held", "two"))
	later := s.receive(receiver, 1)[0]
	s.equal(string(later.GetData()), "two")
	s.equal(deliveryCount(later), 0)
	s.succeed(receiver.Close(s.ctx))
	next := must(AcceptByID(s.ctx, other, s.queue, "held"))(s)
	s.equal(string(s.receive(next, 1)[0].GetData()), "two")
}
