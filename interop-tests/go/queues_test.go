package interop

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/Azure/go-amqp"
)

var queues = map[string]func(*Scenario){
	"generic_send_receive_and_complete":                    sendReceiveAndComplete,
	"generic_anonymous_and_a_cbs_token":                    anonymousAndACbsToken,
	"generic_every_body_kind_and_property_survives":        everyBodyKindAndPropertySurvives,
	"generic_a_message_in_many_frames":                     aMessageInManyFrames,
	"generic_outcomes_accepted_released_modified_rejected": outcomes,
	"generic_receive_and_delete":                           receiveAndDelete,
	"generic_the_receiver_settles_second":                  theReceiverSettlesSecond,
	"generic_a_pre_settled_send":                           aPreSettledSend,
	"generic_a_drain_is_answered":                          aDrainIsAnswered,
	"generic_credit_is_kept_to":                            creditIsKeptTo,
	"generic_a_plain_receiver_shares_with_another":         aPlainReceiverSharesWithAnother,
	"generic_deferring_by_disposition":                     deferringByDisposition,
	"generic_peek_by_management":                           peekByManagement,
	"generic_a_message_lock_is_renewed_by_management":      aMessageLockIsRenewedByManagement,
	"generic_external_by_client_certificate":               externalByClientCertificate,
}

func sendReceiveAndComplete(s *Scenario) {
	_, err := s.dial("amqp", &amqp.ConnOptions{SASLType: amqp.SASLTypePlain("root", key("send-only"))})
	if err == nil || !strings.Contains(err.Error(), "SASL") {
		s.Fatalf("a wrong key: %v", err)
	}

	// Over TLS in, over plain TCP out.
	options := plain()
	options.TLSConfig = trusting(s)
	secure, _ := s.connectWith("amqps", options)
	var messages []*amqp.Message
	for n := range 5 {
		message := amqp.NewMessage(fmt.Appendf(nil, "body %d", n))
		message.Properties = &amqp.MessageProperties{MessageID: fmt.Sprintf("id %d", n), Subject: pointer("of five")}
		message.ApplicationProperties = map[string]any{"n": int64(n)}
		messages = append(messages, message)
	}
	s.put(secure, messages...)

	session := s.connect()
	receiver := s.receiver(session, amqp.ReceiverOptions{})
	for n, message := range s.receive(receiver, 5) {
		s.equal(string(message.GetData()), fmt.Sprintf("body %d", n))
		s.equal(message.Properties.MessageID, fmt.Sprintf("id %d", n))
		s.equal(*message.Properties.Subject, "of five")
		s.equal(message.ApplicationProperties, map[string]any{"n": int64(n)})
		s.equal(deliveryCount(message), 0)
		s.equal(message.Annotations["x-opt-sequence-number"], int64(n+1))
		s.equal(len(message.DeliveryTag), 16)
		s.succeed(receiver.AcceptMessage(s.ctx, message))
	}
	s.empty(receiver)
	s.succeed(receiver.Close(s.ctx))
	s.empty(s.receiver(session, amqp.ReceiverOptions{}))
	s.equal(len(s.peek(s.management(session), 1, 100)), 0)
}

func anonymousAndACbsToken(s *Scenario) {
	session, _ := s.connectWith("amqp", &amqp.ConnOptions{SASLType: amqp.SASLTypeAnonymous()})
	_, err := session.NewSender(s.ctx, s.queue, nil)
	s.refused(err, "amqp:unauthorized-access")
	_, err = session.NewReceiver(s.ctx, s.queue, nil)
	s.refused(err, "amqp:unauthorized-access")

	resource := "sb://localhost/" + s.queue
	requests := must(session.NewSender(s.ctx, "$cbs", nil))(s)
	answers := must(session.NewReceiver(s.ctx, "$cbs", &amqp.ReceiverOptions{TargetAddress: "cbs-answers"}))(s)
	putToken := func(token string) map[string]any {
		id := amqp.UUID{1, 2, 3}
		request := &amqp.Message{
			Properties: &amqp.MessageProperties{MessageID: id, ReplyTo: pointer("cbs-answers")},
			ApplicationProperties: map[string]any{
				"operation": "put-token", "type": "servicebus.windows.net:sastoken", "name": resource,
			},
			Value: token,
		}
		s.succeed(requests.Send(s.ctx, request, nil))
		answer := must(answers.Receive(s.ctx, nil))(s)
		s.equal(answer.Properties.CorrelationID, id)
		return answer.ApplicationProperties
	}
	refusal := putToken(s.sasToken(resource, "root") + "x")
	s.equal(refusal["status-code"], int32(401))
	s.equal(refusal["error-condition"], "amqp:unauthorized-access")
	_, err = session.NewSender(s.ctx, s.queue, nil)
	s.refused(err, "amqp:unauthorized-access")

	s.equal(putToken(s.sasToken(resource, "root"))["status-code"], int32(202))
	s.put(session, texts("with a token")...)
	receiver := s.receiver(session, amqp.ReceiverOptions{})
	message := s.receive(receiver, 1)[0]
	s.equal(string(message.GetData()), "with a token")
	s.succeed(receiver.AcceptMessage(s.ctx, message))
	_, err = session.NewReceiver(s.ctx, "generic_receive_and_delete", nil)
	s.refused(err, "amqp:unauthorized-access")
}

func everyBodyKindAndPropertySurvives(s *Scenario) {
	session := s.connect()
	receiver := s.receiver(session, amqp.ReceiverOptions{})
	moment := time.UnixMilli(1_700_000_000_123)
	// But for symbols, which are decoded into string, a type of Go is a type of AMQP: equal values have equal types.
	typed := map[string]any{
		"string": "ä€😀", "yes": true, "no": false,
		"ubyte": uint8(255), "ushort": uint16(65_535), "uint": uint32(math.MaxUint32), "ulong": uint64(math.MaxUint64),
		"byte": int8(-128), "short": int16(-32_768), "int": int32(math.MinInt32), "long": int64(math.MinInt64),
		"float": float32(0.5), "double": math.Pi, "timestamp": moment, "nothing": nil,
		"uuid": amqp.UUID{0xff, 1, 2}, "binary": []byte{0, 255},
	}
	kinds := []*amqp.Message{
		{Data: [][]byte{{0, 1, 2, 255}}},
		{Data: [][]byte{{}}},
		{Data: [][]byte{[]byte("one"), []byte("two")}},
		{Sequence: [][]any{{"a", int64(1), nil, true}}},
		{Sequence: [][]any{{"a"}, {"b", "c"}}},
		{Value: "a string"},
		{Value: ""},
		{Value: true},
		{Value: int64(-5)},
		{Value: uint64(math.MaxUint64)},
		{Value: 1.5},
		{Value: []byte("binary as value")},
		{Value: typed},
		{Value: map[string]any{"map": map[string]any{"nested": []any{"list", int64(1)}}}},
		{Value: []any{"list", "as", "value"}},
		{Value: []int32{1, 2, 3}},
		{Value: []string{"an", "array"}},
	}
	s.put(session, kinds...)
	for n, message := range s.receive(receiver, len(kinds)) {
		s.equal(message.Data, kinds[n].Data)
		s.equal(message.Sequence, kinds[n].Sequence)
		s.equal(message.Value, kinds[n].Value)
		s.succeed(receiver.AcceptMessage(s.ctx, message))
	}

	properties := amqp.MessageProperties{
		UserID: []byte("user"), To: pointer("to"), Subject: pointer("subject"), ReplyTo: pointer("reply to"),
		ContentType: pointer("text/plain"), ContentEncoding: pointer("gzip"), CreationTime: &moment,
		GroupID: pointer("group"), GroupSequence: pointer(uint32(4_000_000_000)), ReplyToGroupID: pointer("reply group"),
	}
	ids := []any{"an id", uint64(math.MaxUint64), amqp.UUID{0xff, 1, 2}, []byte("bytes")}
	mine := amqp.Annotations{"x-mine": "kept", "x-opt-number": uint16(5), int64(7): "numbered"}
	for _, id := range ids {
		properties.MessageID, properties.CorrelationID = id, id
		message := amqp.NewMessage([]byte("x"))
		message.Header = &amqp.MessageHeader{Durable: true, Priority: 7}
		message.Properties = &properties
		message.ApplicationProperties = typed
		message.Annotations, message.DeliveryAnnotations = mine, mine
		message.Footer = amqp.Annotations{"x-foot": "note"}
		s.put(session, message)

		received := s.receive(receiver, 1)[0]
		s.equal(*received.Properties, properties)
		s.equal(received.ApplicationProperties, typed)
		s.equal(received.Footer, message.Footer)
		s.equal(*received.Header, amqp.MessageHeader{Durable: true, Priority: 7})
		for name, value := range mine {
			s.equal(received.Annotations[name], value)
			s.equal(received.DeliveryAnnotations[name], value)
		}
		if _, is := received.Annotations["x-opt-locked-until"].(time.Time); !is {
			s.Fatal("x-opt-locked-until is no time")
		}
		s.succeed(receiver.AcceptMessage(s.ctx, received))
	}
	s.empty(receiver)
}

func aMessageInManyFrames(s *Scenario) {
	// Larger than the frames of either side: the broker's are 256 KiB at most, this client's 512 bytes.
	options := plain()
	options.MaxFrameSize = 512
	session, _ := s.connectWith("amqp", options)
	var large []byte
	for n := range uint32(175_000) {
		large = binary.BigEndian.AppendUint32(large, n)
	}
	s.put(session, amqp.NewMessage(large), amqp.NewMessage([]byte("after it")))
	received := s.receive(s.receiver(session, amqp.ReceiverOptions{}), 2)
	if !bytes.Equal(received[0].GetData(), large) {
		s.Fatal("the large body changed")
	}
	s.equal(string(received[1].GetData()), "after it")
}

func outcomes(s *Scenario) {
	session := s.connect()
	s.put(session, texts("accepted", "released", "modified", "rejected")...)
	receiver := s.receiver(session, amqp.ReceiverOptions{})
	received := s.receive(receiver, 4)
	s.succeed(receiver.AcceptMessage(s.ctx, received[0]))
	s.succeed(receiver.ReleaseMessage(s.ctx, received[1]))
	tried := &amqp.ModifyMessageOptions{DeliveryFailed: true, Annotations: amqp.Annotations{"why": "tried"}}
	s.succeed(receiver.ModifyMessage(s.ctx, received[2], tried))
	info := map[string]any{"DeadLetterReason": "bad", "DeadLetterErrorDescription": "very bad", "more": int64(1)}
	reason := &amqp.Error{Condition: "my:condition", Description: "not used", Info: info}
	s.succeed(receiver.RejectMessage(s.ctx, received[3], reason))

	again := s.receive(receiver, 2)
	s.equal(bodies(again), []string{"released", "modified"})
	s.equal(deliveryCount(again[0]), 0)
	s.equal(deliveryCount(again[1]), 1)
	s.equal(again[1].ApplicationProperties, map[string]any{"why": "tried"})
	for _, message := range again {
		s.succeed(receiver.AcceptMessage(s.ctx, message))
	}
	s.empty(receiver)

	dead := must(session.NewReceiver(s.ctx, s.queue+"/$DeadLetterQueue", &amqp.ReceiverOptions{Credit: -1}))(s)
	letter := s.receive(dead, 1)[0]
	s.equal(string(letter.GetData()), "rejected")
	s.equal(deliveryCount(letter), 0)
	s.equal(letter.ApplicationProperties, info)
	s.succeed(dead.AcceptMessage(s.ctx, letter))
	s.empty(dead)
}

func receiveAndDelete(s *Scenario) {
	session := s.connect()
	s.put(session, texts("one", "two", "three")...)
	settled := amqp.SenderSettleModeSettled
	receiver := s.receiver(session, amqp.ReceiverOptions{RequestedSenderSettleMode: &settled})
	received := s.receive(receiver, 2)
	s.equal(bodies(received), []string{"one", "two"})
	for _, message := range received {
		s.equal(message.DeliveryAnnotations["x-opt-lock-token"], nil)
	}
	s.succeed(receiver.Close(s.ctx))
	rest := s.receiver(session, amqp.ReceiverOptions{})
	s.equal(bodies(s.receive(rest, 1)), []string{"three"})
	s.empty(rest)
}

func theReceiverSettlesSecond(s *Scenario) {
	session := s.connect()
	s.put(session, texts("accepted", "released", "modified", "rejected", "late")...)
	second := amqp.ReceiverSettleModeSecond
	receiver := s.receiver(session, amqp.ReceiverOptions{SettlementMode: &second})
	received := s.receive(receiver, 5)
	// In this mode each of these waits for the broker's settled outcome.
	s.succeed(receiver.AcceptMessage(s.ctx, received[0]))
	s.succeed(receiver.ReleaseMessage(s.ctx, received[1]))
	s.succeed(receiver.ModifyMessage(s.ctx, received[2], &amqp.ModifyMessageOptions{DeliveryFailed: true}))
	s.succeed(receiver.RejectMessage(s.ctx, received[3], nil))
	management := s.management(session)
	s.equal(bodies(s.peek(management, 1, 100)), []string{"released", "modified", "late"})

	// Someone else was quicker: the outcome cannot be what was asked for, and says why.
	completed := map[string]any{"disposition-status": "completed", "lock-tokens": lockTokens(received[4])}
	must(management.Ask(s.ctx, "com.microsoft:update-disposition", completed))(s)
	s.refused(receiver.AcceptMessage(s.ctx, received[4]), "com.microsoft:message-lock-lost")

	s.equal(bodies(s.receive(receiver, 2)), []string{"released", "modified"})
	s.empty(receiver)
}

func aPreSettledSend(s *Scenario) {
	session := s.connect()
	settled := amqp.SenderSettleModeSettled
	sender := must(session.NewSender(s.ctx, s.queue, &amqp.SenderOptions{SettlementMode: &settled}))(s)
	expected := []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}
	for _, message := range texts(expected...) {
		s.succeed(sender.Send(s.ctx, message, nil))
	}
	receiver := s.receiver(session, amqp.ReceiverOptions{})
	s.equal(bodies(s.receive(receiver, 10)), expected)

	// A link may carry both kinds.
	mixed := must(session.NewSender(s.ctx, s.queue, nil))(s)
	s.succeed(mixed.Send(s.ctx, texts("settled")[0], &amqp.SendOptions{Settled: true}))
	s.succeed(mixed.Send(s.ctx, texts("unsettled")[0], nil))
	s.equal(bodies(s.receive(receiver, 2)), []string{"settled", "unsettled"})

	// What is refused has no outcome either: the link ends.
	bad := texts("x")[0]
	bad.Properties = &amqp.MessageProperties{GroupID: pointer(strings.Repeat("g", 129))}
	s.succeed(sender.Send(s.ctx, bad, nil))
	var err error
	s.waitUntil(func() bool {
		err = sender.Send(s.ctx, texts("after it")[0], nil)
		return err != nil
	}, "the end of the link")
	s.refused(err, "com.microsoft:argument-error")
}

func aDrainIsAnswered(s *Scenario) {
	session := s.connect()
	receiver := s.receiver(session, amqp.ReceiverOptions{})
	s.succeed(receiver.IssueCredit(50))
	s.nothingArrives(receiver)
	s.equal(bodies(s.drain(receiver)), []string{})
	s.equal(bodies(s.drain(receiver)), []string{})

	// The fifty are used up; with more than there is, what is there comes and the rest is used up.
	s.put(session, texts("1", "2", "3", "4", "5")...)
	s.nothingArrives(receiver)
	s.succeed(receiver.IssueCredit(100))
	s.equal(bodies(s.arrived(receiver, 5)), []string{"1", "2", "3", "4", "5"})
	s.equal(bodies(s.drain(receiver)), []string{})

	// No credit is left, and the link goes on after a drain.
	s.put(session, texts("6", "7")...)
	s.nothingArrives(receiver)
	s.equal(bodies(s.receive(receiver, 2)), []string{"6", "7"})
}

func creditIsKeptTo(s *Scenario) {
	session := s.connect()
	s.put(session, texts("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")...)
	receiver := s.receiver(session, amqp.ReceiverOptions{})
	s.nothingArrives(receiver)
	received := s.receive(receiver, 3)
	s.equal(bodies(received), []string{"0", "1", "2"})
	s.nothingArrives(receiver)
	// Settling is no credit.
	for _, message := range received {
		s.succeed(receiver.AcceptMessage(s.ctx, message))
	}
	s.nothingArrives(receiver)
	s.succeed(receiver.IssueCredit(1))
	s.succeed(receiver.IssueCredit(1))
	s.equal(bodies(s.arrived(receiver, 2)), []string{"3", "4"})
	s.nothingArrives(receiver)

	// Credit that the library gives by itself: as many are under way as are asked for.
	automatic := must(session.NewReceiver(s.ctx, s.queue, &amqp.ReceiverOptions{Credit: 2}))(s)
	for _, expected := range []string{"5", "6", "7", "8", "9"} {
		message := s.arrived(automatic, 1)[0]
		s.equal(string(message.GetData()), expected)
		s.succeed(automatic.AcceptMessage(s.ctx, message))
	}
}

func aPlainReceiverSharesWithAnother(s *Scenario) {
	var receivers []*amqp.Receiver
	for range 2 {
		receiver := s.receiver(s.connect(), amqp.ReceiverOptions{})
		s.succeed(receiver.IssueCredit(50))
		receivers = append(receivers, receiver)
	}
	sent := make([]string, 40)
	for n := range sent {
		sent[n] = fmt.Sprintf("%02d", n)
	}
	s.put(s.connect(), texts(sent...)...)
	shares := make([][]*amqp.Message, 2)
	s.waitUntil(func() bool {
		for n, receiver := range receivers {
			for message := receiver.Prefetched(); message != nil; message = receiver.Prefetched() {
				shares[n] = append(shares[n], message)
			}
		}
		return len(shares[0])+len(shares[1]) >= len(sent)
	}, "the arrival of all")
	one, other := bodies(shares[0]), bodies(shares[1])
	if len(one) == 0 || len(other) == 0 || !slices.IsSorted(one) || !slices.IsSorted(other) {
		s.Fatalf("%v and %v", one, other)
	}
	s.equal(slices.Sorted(slices.Values(append(slices.Clone(one), other...))), sent)

	// What one without credit returns, the other gets.
	s.equal(bodies(s.drain(receivers[0])), []string{})
	for _, message := range shares[0] {
		s.succeed(receivers[0].ReleaseMessage(s.ctx, message))
	}
	s.succeed(receivers[0].Close(s.ctx))
	returned := s.arrived(receivers[1], len(one))
	s.equal(slices.Sorted(slices.Values(bodies(returned))), one)
	for _, message := range returned {
		s.equal(deliveryCount(message), 0)
	}
}

func deferringByDisposition(s *Scenario) {
	session := s.connect()
	s.put(session, texts("not now")...)
	second := amqp.ReceiverSettleModeSecond
	receiver := s.receiver(session, amqp.ReceiverOptions{SettlementMode: &second})
	message := s.receive(receiver, 1)[0]
	s.succeed(receiver.ModifyMessage(s.ctx, message, &amqp.ModifyMessageOptions{UndeliverableHere: true}))
	// It does not come again; its number finds it.
	s.empty(receiver)
	management := s.management(session)
	shown := s.peek(management, 1, 100)
	s.equal(bodies(shown), []string{"not now"})
	s.equal(shown[0].Annotations["x-opt-message-state"], int32(1))
	wanted := map[string]any{
		"sequence-numbers":     []int64{message.Annotations["x-opt-sequence-number"].(int64)},
		"receiver-settle-mode": uint32(1),
	}
	answer := must(management.Ask(s.ctx, "com.microsoft:receive-by-sequence-number", wanted))(s)
	entry := answer["messages"].([]any)[0].(map[string]any)
	fetched := new(amqp.Message)
	s.succeed(fetched.UnmarshalBinary(entry["message"].([]byte)))
	s.equal(string(fetched.GetData()), "not now")
	s.equal(deliveryCount(fetched), 1)
	s.equal(lockTokens(fetched), []amqp.UUID{entry["lock-token"].(amqp.UUID)})
	completed := map[string]any{"disposition-status": "completed", "lock-tokens": lockTokens(fetched)}
	must(management.Ask(s.ctx, "com.microsoft:update-disposition", completed))(s)
	s.equal(len(s.peek(management, 1, 100)), 0)
}

func peekByManagement(s *Scenario) {
	session := s.connect()
	management := s.management(session)
	s.equal(len(s.peek(management, 1, 100)), 0)
	messages := texts("one", "two", "three")
	for _, message := range messages {
		message.ApplicationProperties = map[string]any{"body": string(message.GetData())}
	}
	s.put(session, messages...)
	receiver := s.receiver(session, amqp.ReceiverOptions{})
	locked := s.receive(receiver, 1)[0]
	shown := s.peek(management, 1, 100)
	s.equal(bodies(shown), []string{"one", "two", "three"})
	for n, message := range shown {
		s.equal(message.Annotations["x-opt-sequence-number"], int64(n+1))
		s.equal(message.ApplicationProperties, messages[n].ApplicationProperties)
	}
	s.equal(bodies(s.peek(management, 2, 1)), []string{"two"})
	// Peeking changed nothing: the others are there, the first one is still this receiver's.
	s.succeed(receiver.AcceptMessage(s.ctx, locked))
	s.equal(bodies(s.receive(receiver, 2)), []string{"two", "three"})
	s.waitUntil(func() bool { return len(s.peek(management, 1, 100)) == 2 }, "the end of the first message")
}

func aMessageLockIsRenewedByManagement(s *Scenario) {
	// The heartbeat is due several times while nothing else is said.
	options := plain()
	options.IdleTimeout = time.Second
	session, _ := s.connectWith("amqp", options)
	management := s.management(session)
	s.put(session, texts("held long", "let go")...)
	receiver := s.receiver(session, amqp.ReceiverOptions{})
	received := s.receive(receiver, 2)
	until := received[0].Annotations["x-opt-locked-until"].(time.Time)
	for range 2 {
		letTimePass(3 * time.Second)
		tokens := map[string]any{"lock-tokens": lockTokens(received[0])}
		answer := must(management.Ask(s.ctx, "com.microsoft:renew-lock", tokens))(s)
		ends := answer["expirations"].([]time.Time)
		if len(ends) != 1 || !ends[0].After(until) {
			s.Fatalf("%v after %v", ends, until)
		}
		until = ends[0]
	}
	// The other one ran out meanwhile and is back, counted.
	back := s.receive(receiver, 1)[0]
	s.equal(string(back.GetData()), "let go")
	s.equal(deliveryCount(back), 1)
	lost := map[string]any{"lock-tokens": lockTokens(received[1])}
	_, err := management.Ask(s.ctx, "com.microsoft:renew-lock", lost)
	s.refused(err, "com.microsoft:message-lock-lost")
	s.succeed(receiver.AcceptMessage(s.ctx, received[0]))
	s.succeed(receiver.AcceptMessage(s.ctx, back))
	s.waitUntil(func() bool { return len(s.peek(management, 1, 100)) == 0 }, "the end of both messages")
}

func externalByClientCertificate(s *Scenario) {
	by := func(name string) *amqp.ConnOptions {
		pair := must(tls.LoadX509KeyPair(certificate(name+".pem"), certificate(name+"-key.pem")))(s)
		config := trusting(s)
		config.Certificates = []tls.Certificate{pair}
		return &amqp.ConnOptions{SASLType: amqp.SASLTypeExternal(""), TLSConfig: config}
	}
	session, _ := s.connectWith("amqps", by("client"))
	s.put(session, texts("by certificate")...)
	receiver := s.receiver(session, amqp.ReceiverOptions{})
	message := s.receive(receiver, 1)[0]
	s.equal(string(message.GetData()), "by certificate")
	s.succeed(receiver.AcceptMessage(s.ctx, message))
	if _, err := s.dial("amqps", by("stranger")); err == nil || !strings.Contains(err.Error(), "SASL") {
		s.Fatalf("a certificate without rights: %v", err)
	}
}
