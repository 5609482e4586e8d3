#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;

use super::*;

fn release(counter: u64) -> ReleaseRef {
    ReleaseRef { model: format!("vla-{counter}"), version: format!("{counter}.0.0"), release_counter: counter }
}

fn reason(number: u32) -> Reason {
    Reason { number, name: "test".into(), text: "because of a test".into() }
}

fn offer(counter: u64) -> Input {
    Input::Offered(Offer { release: release(counter), refusal: None })
}

const MAY_SWAP: VehicleState = VehicleState {
    speed_mps: Some(0.0),
    engaged: Some(false),
    parked: Some(true),
    power_suffices: Some(true),
    has_model: true,
    has_frames: true,
};
const ENGAGED: VehicleState = VehicleState { engaged: Some(true), ..MAY_SWAP };
const NO_FRAMES: VehicleState = VehicleState { has_frames: false, ..MAY_SWAP };

/// The straight way from an offer to a confirmation.
fn way() -> Vec<(Input, UpdateState)> {
    vec![
        (offer(7), UpdateState::Offered),
        (Input::Consent(Consent::Granted), UpdateState::Consented),
        (Input::DownloadBegan, UpdateState::Downloading),
        (Input::Staged, UpdateState::Staged),
        (Input::SelfTestPassed, UpdateState::SelfTested),
        (Input::ShadowBegan, UpdateState::Shadow),
        (Input::Armed, UpdateState::Armed),
        (Input::Vehicle(MAY_SWAP), UpdateState::Armed),
        (Input::TryRecorded, UpdateState::Armed),
        (Input::Swapped, UpdateState::Trial),
        (Input::TrialPassed, UpdateState::Trial),
        (Input::ConfirmationRecorded, UpdateState::Trial),
        (Input::Confirmed, UpdateState::Confirmed),
    ]
}

/// An update after the first `steps` of the way, its outputs taken.
fn after(steps: usize) -> Update {
    let mut update = Update::new(ActivationPolicy::NextDisengaged);
    for (input, _) in way().into_iter().take(steps) {
        update.handle(input).unwrap();
    }
    outputs(&mut update);
    update
}

fn outputs(update: &mut Update) -> Vec<Output> {
    std::iter::from_fn(|| update.poll_output()).collect()
}

fn at(state: UpdateState) -> Update {
    after(way().iter().position(|(_, reached)| *reached == state).unwrap() + 1)
}

/// Gives an input to an update in each state of the way.
fn everywhere(input: &Input, check: impl Fn(UpdateState, Result<(), OutOfTurn>, &mut Update)) {
    for steps in 0..=way().len() {
        let mut update = after(steps);
        let before = update.stage();
        let result = update.handle(input.clone());
        check(before, result, &mut update);
    }
}

#[test]
fn an_update_goes_its_way_and_says_at_each_step_what_to_do() {
    let mut update = Update::new(ActivationPolicy::NextDisengaged);
    let mut said = Vec::new();
    for (input, reached) in way() {
        update.handle(input).unwrap();
        assert_eq!(update.stage(), reached);
        said.extend(outputs(&mut update));
    }
    use Output::{AskConsent, Changed, Confirm, Download, Load, RecordConfirmation, RecordTry, Swap};
    let expected = [
        Changed(UpdateState::Offered),
        AskConsent,
        Changed(UpdateState::Consented),
        Download,
        Changed(UpdateState::Downloading),
        Changed(UpdateState::Staged),
        Load,
        Changed(UpdateState::SelfTested),
        Changed(UpdateState::Shadow),
        Changed(UpdateState::Armed),
        RecordTry,
        Swap(Permission::Disengaged),
        Changed(UpdateState::Trial),
        RecordConfirmation,
        Confirm,
        Changed(UpdateState::Confirmed),
    ];
    assert_eq!(said, expected);
    assert_eq!(update.release(), Some(&release(7)));
}

#[test]
fn a_first_model_has_nothing_to_run_beside() {
    let mut update = at(UpdateState::SelfTested);
    update.handle(Input::Armed).unwrap();
    assert_eq!(update.stage(), UpdateState::Armed);
}

#[test]
fn a_failure_before_the_swap_refuses_the_release_and_after_it_rolls_back() {
    everywhere(&Input::Failed(reason(9), Blame::Release), |before, result, update| {
        use UpdateState::{
            Armed, Confirmed, Consented, Downloading, Idle, Offered, Refused, RolledBack, SelfTested, Shadow, Staged, Trial,
        };
        match before {
            Offered | Consented | Downloading | Staged | SelfTested | Shadow | Armed => assert_eq!(update.stage(), Refused),
            Trial => assert_eq!(update.stage(), RolledBack),
            Idle | Confirmed | RolledBack | Refused => {
                assert!(result.is_err());
                assert_eq!(outputs(update), []);
                return;
            }
        }
        assert_eq!(update.reason(), Some(&reason(9)));
        assert_eq!(update.release(), Some(&release(7)));
        let said = outputs(update);
        assert_eq!(said, [Output::RecordFailure(reason(9), Blame::Release), Output::Changed(update.stage())], "recorded before it is told");
    });
}

#[test]
fn a_withdrawn_release_is_let_go_until_it_drives() {
    everywhere(&Input::Withdrawn, |before, result, update| {
        result.unwrap();
        use UpdateState::{
            Armed, Confirmed, Consented, Downloading, Idle, Offered, Refused, RolledBack, SelfTested, Shadow, Staged, Trial,
        };
        let cancels = matches!(outputs(update).first(), Some(Output::Cancel));
        match before {
            Idle | Offered | Consented | Downloading => assert_eq!((update.stage(), cancels), (Idle, false)),
            Staged | SelfTested | Shadow => assert_eq!((update.stage(), cancels), (Idle, true)),
            // Armed and waiting it is let go; once it is ordered to swap, when the engine has given it back.
            Armed => assert!(cancels && matches!(update.stage(), Idle | Armed)),
            Trial | Confirmed => assert_eq!((update.stage(), cancels), (before, false)),
            RolledBack | Refused => unreachable!("not on the way"),
        }
    });
}

#[test]
fn another_offer_takes_the_place_of_one_that_does_not_drive_yet() {
    everywhere(&offer(8), |before, result, update| {
        result.unwrap();
        let said = outputs(update);
        match update.stage() {
            UpdateState::Offered => {
                assert_eq!(update.release(), Some(&release(8)));
                assert_eq!(said[said.len() - 2..], [Output::Changed(UpdateState::Offered), Output::AskConsent]);
            }
            stage => {
                assert!(matches!(before, UpdateState::Armed | UpdateState::Trial));
                assert_eq!((stage, update.release()), (before, Some(&release(7))));
                assert_eq!(said, if before == UpdateState::Armed { vec![Output::Cancel] } else { vec![] });
            }
        }
    });
}

#[test]
fn the_same_offer_again_changes_nothing_but_asks_again_for_consent() {
    everywhere(&offer(7), |before, result, update| {
        result.unwrap();
        match before {
            UpdateState::Idle | UpdateState::Confirmed => assert_eq!(update.stage(), UpdateState::Offered),
            UpdateState::Offered => assert_eq!(outputs(update), [Output::AskConsent]),
            before => assert_eq!((update.stage(), outputs(update)), (before, vec![])),
        }
    });
}

#[test]
fn a_denied_release_is_refused_and_a_postponed_one_waits() {
    let mut update = at(UpdateState::Offered);
    update.handle(Input::Consent(Consent::Later)).unwrap();
    assert_eq!((update.stage(), outputs(&mut update)), (UpdateState::Offered, vec![]));
    update.handle(Input::Consent(Consent::Denied)).unwrap();
    assert_eq!(update.stage(), UpdateState::Refused);
    assert_eq!(update.reason().unwrap().name, "consent_denied");
    assert_eq!(outputs(&mut update), [Output::Changed(UpdateState::Refused)]);
}

#[test]
fn a_release_in_quarantine_is_refused_and_the_first_reason_is_kept() {
    let offer = Input::Offered(Offer { release: release(7), refusal: Some(reason(3)) });
    let mut update = Update::new(ActivationPolicy::Now);
    update.handle(offer.clone()).unwrap();
    assert_eq!((update.stage(), update.reason()), (UpdateState::Refused, Some(&reason(3))));
    let mut update = at(UpdateState::Trial);
    update.handle(Input::Failed(reason(9), Blame::Release)).unwrap();
    outputs(&mut update);
    update.handle(offer).unwrap();
    assert_eq!((update.stage(), update.reason()), (UpdateState::RolledBack, Some(&reason(9))));
    assert_eq!(outputs(&mut update), []);
}

#[test]
fn metadata_that_is_not_believed_refuses_nothing_that_was_believed_before() {
    everywhere(&Input::NotBelieved(reason(105)), |before, result, update| {
        result.unwrap();
        match before {
            UpdateState::Idle | UpdateState::Confirmed => {
                assert_eq!((update.stage(), update.release()), (UpdateState::Refused, None));
            }
            before => assert_eq!(update.stage(), before),
        }
    });
}

#[test]
fn no_model_takes_over_while_the_driving_function_is_engaged() {
    let mut update = at(UpdateState::Armed);
    update.handle(Input::Vehicle(ENGAGED)).unwrap();
    assert_eq!(outputs(&mut update), []);
    update.handle(Input::Vehicle(MAY_SWAP)).unwrap();
    assert_eq!(outputs(&mut update), [Output::RecordTry]);
}

#[test]
fn an_order_activates_whatever_the_policy_says() {
    let mut update = at(UpdateState::Armed);
    update.handle(Input::Activate).unwrap();
    update.handle(Input::Vehicle(ENGAGED)).unwrap();
    assert_eq!(outputs(&mut update), [Output::RecordTry]);
    update.handle(Input::TryRecorded).unwrap();
    assert_eq!(outputs(&mut update), [Output::Swap(Permission::Anytime)]);
    assert!(at(UpdateState::Shadow).handle(Input::Activate).is_err());
}

#[test]
fn no_try_is_recorded_before_frames_arrive() {
    for policy in [ActivationPolicy::Now, ActivationPolicy::NextDisengaged, ActivationPolicy::NextStandstill, ActivationPolicy::Manual] {
        let mut update = Update { policy, ..at(UpdateState::Armed) };
        if policy == ActivationPolicy::Manual {
            update.handle(Input::Activate).unwrap();
        }
        for vehicle in [NO_FRAMES, VehicleState { has_model: false, ..NO_FRAMES }] {
            update.handle(Input::Vehicle(vehicle)).unwrap();
            assert_eq!(outputs(&mut update), [], "{policy:?}");
        }
        update.handle(Input::Vehicle(MAY_SWAP)).unwrap();
        assert_eq!(outputs(&mut update), [Output::RecordTry], "{policy:?}");
    }
}

/// An update whose model is ordered to swap.
fn ordered() -> Update {
    let mut update = at(UpdateState::Armed);
    update.handle(Input::Vehicle(MAY_SWAP)).unwrap();
    update.handle(Input::TryRecorded).unwrap();
    assert_eq!(outputs(&mut update), [Output::RecordTry, Output::Swap(Permission::Disengaged)]);
    update
}

#[test]
fn an_order_stands_only_while_the_vehicle_permits_it_and_its_try_is_given_back() {
    for vehicle in [ENGAGED, NO_FRAMES, VehicleState { power_suffices: Some(false), ..MAY_SWAP }] {
        let mut update = ordered();
        update.handle(Input::Vehicle(MAY_SWAP)).unwrap();
        assert_eq!(outputs(&mut update), []);
        update.handle(Input::Vehicle(vehicle)).unwrap();
        update.handle(Input::Vehicle(MAY_SWAP)).unwrap();
        assert_eq!(outputs(&mut update), [Output::Hold], "not before the engine has answered");
        let mut faster = update.clone();
        faster.handle(Input::Swapped).unwrap();
        assert_eq!((faster.stage(), outputs(&mut faster)), (UpdateState::Trial, vec![Output::Changed(UpdateState::Trial)]));
        update.handle(Input::Armed).unwrap();
        assert_eq!(outputs(&mut update), [Output::ReturnTry]);
        update.handle(Input::Vehicle(vehicle)).unwrap();
        assert_eq!(outputs(&mut update), []);
        update.handle(Input::Vehicle(MAY_SWAP)).unwrap();
        assert_eq!(outputs(&mut update), [Output::RecordTry]);
    }
}

#[test]
fn an_order_of_the_program_widens_the_one_of_the_policy() {
    let mut update = ordered();
    update.handle(Input::Activate).unwrap();
    update.handle(Input::Vehicle(ENGAGED)).unwrap();
    assert_eq!(outputs(&mut update), [Output::Swap(Permission::Anytime)]);
}

#[test]
fn an_ordered_model_that_is_withdrawn_is_taken_back_unless_a_frame_was_faster() {
    for held in [false, true] {
        let mut update = ordered();
        if held {
            update.handle(Input::Vehicle(ENGAGED)).unwrap();
            assert_eq!(outputs(&mut update), [Output::Hold]);
        }
        update.handle(Input::Withdrawn).unwrap();
        assert_eq!((update.stage(), outputs(&mut update)), (UpdateState::Armed, vec![Output::Cancel]));
        for crossed in [Input::Armed, Input::Withdrawn, Input::Vehicle(MAY_SWAP), Input::Activate] {
            update.handle(crossed).unwrap();
            assert_eq!((update.stage(), outputs(&mut update)), (UpdateState::Armed, vec![]));
        }
        let mut faster = update.clone();
        faster.handle(Input::Swapped).unwrap();
        assert_eq!(faster.stage(), UpdateState::Trial);
        update.handle(Input::Failed(reason(4124), Blame::Nobody)).unwrap();
        let record = Output::RecordFailure(withdrawn(), Blame::Nobody);
        assert_eq!(outputs(&mut update), [record, Output::Changed(UpdateState::Idle)]);
    }
}

#[test]
fn another_offer_follows_the_ordered_model_that_was_taken_back_for_it() {
    let mut update = ordered();
    update.handle(offer(8)).unwrap();
    assert_eq!(outputs(&mut update), [Output::Cancel]);
    update.handle(Input::Failed(reason(4124), Blame::Nobody)).unwrap();
    let record = Output::RecordFailure(superseded(&release(8)), Blame::Nobody);
    assert_eq!(outputs(&mut update), [record, Output::Changed(UpdateState::Offered), Output::AskConsent]);
    assert_eq!(update.release(), Some(&release(8)));
}

#[test]
fn a_try_that_cannot_be_recorded_is_not_made() {
    let mut update = at(UpdateState::Armed);
    update.handle(Input::Vehicle(MAY_SWAP)).unwrap();
    outputs(&mut update);
    update.handle(Input::RecordFailed(reason(300))).unwrap();
    let record = Output::RecordFailure(reason(300), Blame::Circumstances);
    assert_eq!(outputs(&mut update), [Output::Cancel, record, Output::Changed(UpdateState::Refused)]);
}

#[test]
fn a_model_that_fails_before_the_previous_one_is_let_go_is_not_confirmed() {
    let mut update = at(UpdateState::Trial);
    update.handle(Input::TrialPassed).unwrap();
    update.handle(Input::ConfirmationRecorded).unwrap();
    outputs(&mut update);
    update.handle(Input::Failed(reason(4152), Blame::Release)).unwrap();
    let expected = [Output::RecordFailure(reason(4152), Blame::Release), Output::Changed(UpdateState::RolledBack)];
    assert_eq!(outputs(&mut update), expected);
}

#[test]
fn a_confirmation_that_cannot_be_recorded_is_asked_for_again() {
    let mut update = at(UpdateState::Trial);
    update.handle(Input::TrialPassed).unwrap();
    update.handle(Input::RecordFailed(reason(300))).unwrap();
    assert_eq!(outputs(&mut update), [Output::RecordConfirmation]);
    update.handle(Input::Vehicle(ENGAGED)).unwrap();
    assert_eq!(outputs(&mut update), [Output::RecordConfirmation]);
    update.handle(Input::ConfirmationRecorded).unwrap();
    update.handle(Input::Confirmed).unwrap();
    assert_eq!(update.stage(), UpdateState::Confirmed);
}

#[test]
fn a_staged_release_goes_on_after_a_restart() {
    let mut update = Update::staged(ActivationPolicy::NextDisengaged, release(7));
    assert_eq!(outputs(&mut update), [Output::Changed(UpdateState::Staged), Output::Load]);
}

#[test]
fn a_release_from_before_the_restart_takes_over_only_once_it_is_assigned_again() {
    for policy in [ActivationPolicy::Now, ActivationPolicy::NextDisengaged, ActivationPolicy::Manual] {
        let mut update = Update::staged(policy, release(7));
        for input in [Input::SelfTestPassed, Input::ShadowBegan, Input::Armed] {
            update.handle(input).unwrap();
        }
        outputs(&mut update);
        for input in [Input::Vehicle(MAY_SWAP), Input::Vehicle(NO_FRAMES), Input::NotBelieved(reason(105))] {
            update.handle(input).unwrap();
        }
        update.handle(Input::Activate).unwrap_err();
        assert_eq!((update.stage(), outputs(&mut update)), (UpdateState::Armed, vec![]), "{policy:?}");
        let mut withdrawn = update.clone();
        withdrawn.handle(Input::Withdrawn).unwrap();
        assert_eq!(withdrawn.stage(), UpdateState::Idle);
        update.handle(offer(7)).unwrap();
        assert_eq!(outputs(&mut update), []);
        if policy == ActivationPolicy::Manual {
            update.handle(Input::Activate).unwrap();
        }
        update.handle(Input::Vehicle(MAY_SWAP)).unwrap();
        assert_eq!(outputs(&mut update), [Output::RecordTry], "{policy:?}");
    }
}

#[test]
fn an_input_out_of_turn_says_so() {
    let error = at(UpdateState::Downloading).handle(Input::Swapped).unwrap_err();
    assert_eq!(error.to_string(), "a swap is out of turn while the update is downloading");
}

fn any_input() -> impl Strategy<Value = Input> {
    let blame = prop_oneof![Just(Blame::Release), Just(Blame::Circumstances), Just(Blame::Nobody)];
    prop_oneof![
        2 => (7..9_u64, any::<bool>()).prop_map(|(counter, bad)| {
            Input::Offered(Offer { release: release(counter), refusal: bad.then(|| reason(3)) })
        }),
        4 => (0..12_usize).prop_map(|step| way()[step].0.clone()),
        1 => Just(Input::Withdrawn),
        1 => Just(Input::NotBelieved(reason(105))),
        1 => Just(Input::Consent(Consent::Later)),
        1 => Just(Input::Vehicle(ENGAGED)),
        1 => Just(Input::Vehicle(NO_FRAMES)),
        1 => Just(Input::Activate),
        1 => Just(Input::RecordFailed(reason(300))),
        3 => Just(Input::Confirmed),
        1 => blame.prop_map(|blame| Input::Failed(reason(9), blame)),
    ]
}

proptest! {
    /// Whatever happens in whatever order: no swap without a recorded try, no release confirmed without its record, none let
    /// go without a word, and an input out of turn changes nothing.
    #[test]
    fn every_order_of_events_keeps_the_promises(inputs in proptest::collection::vec(any_input(), 0..60)) {
        let mut update = Update::new(ActivationPolicy::NextDisengaged);
        let (mut try_asked, mut on_record) = (false, false);
        for input in inputs {
            let (stage, before, release_before) = (update.stage(), update.clone().state, update.release().cloned());
            let result = update.handle(input.clone());
            let said = outputs(&mut update);
            if result.is_err() {
                prop_assert_eq!(&update.state, &before);
                prop_assert_eq!(said, vec![]);
                continue;
            }
            on_record |= input == Input::TryRecorded && std::mem::take(&mut try_asked);
            let confirmation_recorded = input == Input::ConfirmationRecorded;
            for output in &said {
                match output {
                    Output::RecordTry => {
                        prop_assert!(!on_record);
                        try_asked = true;
                    }
                    Output::Swap(_) => prop_assert!(on_record),
                    Output::ReturnTry | Output::RecordFailure(..) => on_record = false,
                    Output::Confirm => {
                        prop_assert!(confirmation_recorded);
                        on_record = false;
                    }
                    _ => {}
                }
            }
            let changed = update.stage() != stage || update.release() != release_before.as_ref();
            let told = said.iter().filter(|output| matches!(output, Output::Changed(_))).count();
            prop_assert!(told <= 1);
            prop_assert!(!changed || told == 1, "{:?} -> {:?}: {:?}", stage, update.stage(), said);
            if update.stage() == UpdateState::Trial {
                prop_assert!(matches!(stage, UpdateState::Armed | UpdateState::Trial));
            }
            if update.stage() == UpdateState::Confirmed && stage != UpdateState::Confirmed {
                prop_assert_eq!(stage, UpdateState::Trial);
            }
        }
    }
}
