"""The reference carrier: challenges, verification, receipts, alarms."""
