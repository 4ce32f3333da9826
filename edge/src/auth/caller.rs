//! The caller, and the narrowing of a token by its grants. Pure.

use serde::{Deserialize, Deserializer, Serialize};
use shared::id::{CallId, UserId};

use crate::error::{ApiError, Code};

/// What a token's bearer is beyond a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Nothing.
    #[default]
    User,
    /// An operator: may do what hosts may, and see `/admin`.
    Admin,
}

/// The role that a foreign token claims. Identity providers put words of their own there: whatever is not ours makes an
/// ordinary user.
pub(super) fn role_claim<'de, D: Deserializer<'de>>(claim: D) -> Result<Role, D::Error> {
    let claim = serde_json::Value::deserialize(claim)?;
    Ok(Role::deserialize(claim).unwrap_or_default())
}

/// What a token is narrowed to. Once any of the three rights is named, those not named as `true` are not granted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Grants {
    /// The only call that it is good for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub call: Option<CallId>,
    /// May enter the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join: Option<bool>,
    /// May send media into the call, and upload chunks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish: Option<bool>,
    /// May start, stop and delete recordings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<bool>,
}

/// Something that a narrowed token may or may not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// See the call and its recordings.
    View,
    /// Enter the call.
    Join,
    /// Send media into the call, and upload chunks.
    Publish,
    /// Start, stop and delete recordings.
    Record,
    /// Create, change and end the call. No grant names this: a token with named rights does not have it.
    Manage,
}

/// Who sent a request, as their token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// `sub`.
    pub user: UserId,
    /// `name`.
    pub name: Option<String>,
    /// `role`.
    pub role: Role,
    /// `grants`.
    pub grants: Option<Grants>,
}

impl Caller {
    /// Whether the caller's token, as narrowed by its grants, is good for this. What the person is to the call is another
    /// question.
    ///
    /// # Errors
    /// 403 `not-granted`.
    pub fn may(&self, right: Right, call: &CallId) -> Result<(), ApiError> {
        let Some(grants) = &self.grants else { return Ok(()) };
        if grants.call.as_ref().is_some_and(|only| only != call) {
            return Err(ApiError::new(Code::NotGranted, super::other_call(call)));
        }
        if grants.allow(right) {
            return Ok(());
        }
        Err(ApiError::new(Code::NotGranted, "the token does not grant this"))
    }

    /// The one call that the token is good for, when it is narrowed to one.
    #[must_use]
    pub fn only_call(&self) -> Option<&CallId> {
        self.grants.as_ref()?.call.as_ref()
    }

    /// Whether the caller is an operator whose token was not narrowed.
    ///
    /// # Errors
    /// 403 `forbidden`.
    pub fn must_be_admin(&self) -> Result<(), ApiError> {
        match (self.role, &self.grants) {
            (Role::Admin, None) => Ok(()),
            _ => Err(ApiError::forbidden("this is for operators")),
        }
    }
}

impl Grants {
    fn allow(&self, right: Right) -> bool {
        let named = [self.join, self.publish, self.record].iter().any(Option::is_some);
        match right {
            Right::View => true,
            Right::Join => !named || self.join == Some(true),
            Right::Publish => !named || self.publish == Some(true),
            Right::Record => !named || self.record == Some(true),
            Right::Manage => !named,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(grants: serde_json::Value) -> Caller {
        Caller {
            user: UserId::parse("ann").unwrap(),
            name: None,
            role: Role::User,
            grants: serde_json::from_value(grants).unwrap(),
        }
    }

    fn allowed(caller: &Caller, call: &str) -> Vec<Right> {
        let call = CallId::parse(call).unwrap();
        let all = [Right::View, Right::Join, Right::Publish, Right::Record, Right::Manage];
        all.into_iter().filter(|right| caller.may(*right, &call).is_ok()).collect()
    }

    #[test]
    fn a_token_without_grants_is_not_narrowed() {
        assert_eq!(allowed(&caller(serde_json::Value::Null), "a").len(), 5);
    }

    #[test]
    fn a_call_in_the_grants_is_the_only_one() {
        let caller = caller(serde_json::json!({ "call": "a" }));
        assert_eq!(allowed(&caller, "a").len(), 5);
        assert_eq!(allowed(&caller, "b"), []);
    }

    #[test]
    fn naming_one_right_takes_the_others() {
        let publisher = caller(serde_json::json!({ "publish": true }));
        assert_eq!(allowed(&publisher, "a"), [Right::View, Right::Publish]);
        let nobody = caller(serde_json::json!({ "record": false }));
        assert_eq!(allowed(&nobody, "a"), [Right::View]);
    }

    #[test]
    fn a_narrowed_admin_is_no_operator() {
        let mut admin = caller(serde_json::Value::Null);
        admin.role = Role::Admin;
        assert!(admin.must_be_admin().is_ok());
        admin.grants = Some(Grants::default());
        assert!(admin.must_be_admin().is_err());
    }
}
