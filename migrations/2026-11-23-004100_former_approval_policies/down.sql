DROP TABLE former_approval_policy;
